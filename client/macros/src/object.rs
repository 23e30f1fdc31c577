//! Generates the object that serves an interface: its description, and the dispatch of its methods.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{Ident, ItemTrait};

use crate::attributes::{Event, Interface, Method, summary};
use crate::method::{Input, Items, Kind, Parts};

pub(crate) fn object(
    private: &TokenStream,
    interface: &Interface,
    item: &ItemTrait,
    methods: &[Parts],
) -> TokenStream {
    let (vis, ident) = (&item.vis, &item.ident);
    let name = format_ident!("{ident}Object");
    let about = format!("Serves what implements [`{ident}`].");
    let summary = summary(&item.attrs);
    let version = interface.version.as_ref().map_or_else(|| quote!(""), |v| quote!(#v));
    let tags = &interface.tags;
    let descriptions = methods.iter().map(|parts| describe(private, parts));
    let events = interface.events.iter().map(|event| describe_event(private, event));
    let arms = methods.iter().map(|parts| arm(private, ident, parts));
    let names = methods.iter().map(|parts| &parts.name);
    let context = call_context();
    quote! {
        #[doc = #about]
        #[derive(Clone, Debug)]
        #vis struct #name<T>(#vis T);

        impl<T: #ident> #private::Object for #name<T> {
            fn description(&self) -> #private::Description {
                #[allow(unused_imports)]
                use #private::AnyType as _;
                #[allow(unused_mut)]
                let mut schemas = #private::Schemas::default();
                #private::Description {
                    summary: #summary.into(),
                    version: #version.into(),
                    tags: vec![#(#tags.into()),*],
                    methods: vec![#(#descriptions),*],
                    events: vec![#(#events),*],
                    schemas: schemas.finish(),
                }
            }

            fn call(self: ::std::sync::Arc<Self>, call: #private::Call) -> #private::Answering {
                ::std::boxed::Box::pin(async move {
                    #[allow(unused_imports)]
                    use #private::AnyType as _;
                    #[allow(unused_variables)]
                    let #private::Call { method, params, context: #context } = call;
                    match method.as_str() {
                        #(#arms)*
                        _ => ::core::result::Result::Err(
                            #private::no_such_method(method.as_str(), &[#(#names),*]),
                        ),
                    }
                })
            }
        }
    }
}

fn describe_event(private: &TokenStream, event: &Event) -> TokenStream {
    let (name, carries, state) = (event.on_bus(), &event.carries, event.state);
    quote! {
        #private::Event { name: #name.into(), schema: schemas.of::<#carries>(), state: #state }
    }
}

fn describe(private: &TokenStream, parts: &Parts) -> TokenStream {
    let (name, summary) = (&parts.name, &parts.summary);
    let Method { idempotent, read_only, once, secret, .. } = parts.settings;
    let params = parts.inputs.iter().filter_map(|input| {
        let (name, of) = (input.on_bus(), input.sent()?);
        Some(quote_spanned! { of.span() =>
            #private::Parameter {
                name: #name.into(),
                required: #private::ByType::<#of>::REQUIRED,
                schema: #private::ByType::<#of>::schema(&mut schemas),
            }
        })
    });
    let stream = parts.items.is_some();
    let result = if let Some(Items { of, .. }) = &parts.items {
        quote!(::core::option::Option::Some(schemas.of::<::std::vec::Vec<#of>>()))
    } else {
        let of = &parts.result;
        quote_spanned!(of.span() => #private::ByType::<#of>::result_schema(&mut schemas))
    };
    let limit = parts.settings.time_limit_ms.as_ref();
    let limit = limit.map_or_else(
        || quote!(::core::option::Option::None),
        |limit| quote!(::core::option::Option::Some(#limit)),
    );
    quote! {
        #private::Method {
            name: #name.into(),
            summary: #summary.into(),
            params: vec![#(#params),*],
            result: #result,
            idempotent: #idempotent,
            read_only: #read_only,
            once: #once,
            secret: #secret,
            stream: #stream,
            time_limit_ms: #limit,
        }
    }
}

/// Returns the variable of the call's context. Hygienic: a parameter may have the same name.
fn call_context() -> Ident {
    Ident::new("context", Span::mixed_site())
}

fn arm(private: &TokenStream, interface: &Ident, parts: &Parts) -> TokenStream {
    let (context, arguments) = (call_context(), Ident::new("arguments", Span::mixed_site()));
    let (name, method) = (&parts.name, &parts.function.sig.ident);
    let names = parts.inputs.iter().filter(|input| input.sent().is_some()).map(Input::on_bus);
    let takes = parts.inputs.iter().filter_map(|input| {
        let (name, of) = (&input.name, input.sent()?);
        let take = quote_spanned!(of.span() => #private::ByType::<#of>::take(&mut #arguments)?);
        Some(quote!(let #name = #take;))
    });
    let passed = parts.inputs.iter().map(|input| {
        let name = &input.name;
        match &input.kind {
            Kind::Context { of, by_reference } => {
                let passed = quote_spanned!(of.span() => <#of as #private::CallContext>::of(&#context));
                if *by_reference { passed } else { quote!(#passed.clone()) }
            }
            Kind::Value(_) => quote!(#name),
        }
    });
    let answer = match &parts.items {
        Some(Items { fallible: true, .. }) => quote!(#context.try_stream(result).await),
        Some(Items { fallible: false, .. }) => quote!(#context.stream(result).await),
        None => {
            let of = &parts.result;
            quote_spanned!(of.span() => #private::ByType::<#of>::answer(result))
        }
    };
    quote! {
        #name => {
            const NAMES: &[&str] = &[#(#names),*];
            #[allow(unused_mut, unused_variables)]
            let mut #arguments = #private::Arguments::new(params, NAMES)?;
            #(#takes)*
            let result = <T as #interface>::#method(&self.0, #(#passed),*).await?;
            #answer
        }
    }
}
