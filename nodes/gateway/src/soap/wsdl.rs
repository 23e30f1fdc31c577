//! WSDL 1.1 documents of services: document/literal, wrapped.

use std::fmt::Write as _;

use super::service::{Operation, Service};
use super::xml::text;

/// Creates the document; `location` is the URL of the service.
pub(super) fn document(service: &Service, location: &str) -> String {
    let Service { name, namespace, summary, operations } = service;
    let (namespace, location) = (text(namespace), text(location));
    let mut out = format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<wsdl:definitions name="{name}" targetNamespace="{namespace}" xmlns:tns="{namespace}"
    xmlns:wsdl="http://schemas.xmlsoap.org/wsdl/" xmlns:soap="http://schemas.xmlsoap.org/wsdl/soap/"
    xmlns:xs="http://www.w3.org/2001/XMLSchema">
<wsdl:documentation>{}</wsdl:documentation>
<wsdl:types>
<xs:schema targetNamespace="{namespace}" elementFormDefault="qualified">
"#,
        text(summary)
    );
    for operation in operations {
        elements(&mut out, operation);
    }
    out.push_str("</xs:schema>\n</wsdl:types>\n");
    for Operation { name, .. } in operations {
        for part in [name.clone(), format!("{name}Response")] {
            let _ = writeln!(
                out,
                r#"<wsdl:message name="{part}"><wsdl:part name="parameters" element="tns:{part}"/></wsdl:message>"#
            );
        }
    }
    let _ = writeln!(out, r#"<wsdl:portType name="{name}">"#);
    for Operation { name, summary, .. } in operations {
        let _ = writeln!(
            out,
            r#"<wsdl:operation name="{name}"><wsdl:documentation>{}</wsdl:documentation><wsdl:input message="tns:{name}"/><wsdl:output message="tns:{name}Response"/></wsdl:operation>"#,
            text(summary)
        );
    }
    let _ = writeln!(
        out,
        r#"</wsdl:portType>
<wsdl:binding name="{name}" type="tns:{name}">
<soap:binding style="document" transport="http://schemas.xmlsoap.org/soap/http"/>"#
    );
    for Operation { name, .. } in operations {
        let _ = writeln!(
            out,
            r#"<wsdl:operation name="{name}"><soap:operation soapAction="{name}" style="document"/><wsdl:input><soap:body use="literal"/></wsdl:input><wsdl:output><soap:body use="literal"/></wsdl:output></wsdl:operation>"#
        );
    }
    let _ = writeln!(
        out,
        r#"</wsdl:binding>
<wsdl:service name="{name}"><wsdl:port name="{name}" binding="tns:{name}"><soap:address location="{location}"/></wsdl:port></wsdl:service>
</wsdl:definitions>"#
    );
    out
}

fn elements(out: &mut String, operation: &Operation) {
    let Operation { name, params, result, .. } = operation;
    let _ = write!(out, r#"<xs:element name="{name}"><xs:complexType><xs:sequence>"#);
    for param in params {
        let optional = if param.required { "" } else { r#" minOccurs="0" nillable="true""# };
        let _ = write!(out, r#"<xs:element name="{}" type="xs:{}"{optional}/>"#, param.name, param.of.name());
    }
    out.push_str("</xs:sequence></xs:complexType></xs:element>\n");
    let _ = write!(out, r#"<xs:element name="{name}Response"><xs:complexType><xs:sequence>"#);
    if let Some(of) = result {
        let of = of.name();
        let _ =
            write!(out, r#"<xs:element name="{name}Result" type="xs:{of}" minOccurs="0" nillable="true"/>"#);
    }
    out.push_str("</xs:sequence></xs:complexType></xs:element>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use rantai_client::object::Object;
    use rantai_systems::calculator::{CalculatorObject, Exact};

    #[test]
    fn wsdl_describes_every_operation() {
        let service = Service::of("calculator", &CalculatorObject(Exact).description());
        let document = document(&service, "http://localhost:8000/calculator?a=1&b=2");
        let root = super::super::xml::parse(&document).expect("XML");
        assert!(root.is("http://schemas.xmlsoap.org/wsdl/", "definitions"));
        let of = |name: &str| root.children.iter().filter(|child| child.name == name).count();
        assert_eq!((of("message"), of("portType"), of("binding"), of("service")), (8, 1, 1, 1));
    }
}
