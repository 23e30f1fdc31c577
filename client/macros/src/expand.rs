//! Expansion of a trait into its interface, proxy and object.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote};
use syn::{
    FnArg, GenericArgument, Ident, ItemTrait, Pat, PathArguments, ReceiverKind, ReturnType, TraitItem,
    TraitItemFn, Type, TypeParamBound,
};

use crate::attributes::{Interface, Method, summary};

/// Parsed method.
struct Parts {
    function: TraitItemFn,
    settings: Method,
    summary: String,
    /// Name on the bus.
    name: String,
    inputs: Vec<Input>,
    result: Type,
    /// Items of the stream; `None` if the result is not a stream.
    items: Option<Items>,
}

/// Items of a stream.
struct Items {
    of: Type,
    /// Whether the item type is `Result<T, Fault>`.
    fallible: bool,
}

struct Input {
    name: Ident,
    kind: Kind,
}

/// Kind of a parameter, by its type.
enum Kind {
    Context { by_reference: bool },
    Binary,
    Optional(Type),
    Value(Type),
}

pub(crate) fn expand(interface: &Interface, mut item: ItemTrait) -> syn::Result<TokenStream> {
    if !item.generics.params.is_empty() {
        return Err(syn::Error::new_spanned(&item.generics, "an interface has no type parameters"));
    }
    let mut methods = Vec::new();
    for inner in std::mem::take(&mut item.items) {
        match inner {
            TraitItem::Fn(function) => methods.push(take_apart(function)?),
            other => return Err(syn::Error::new_spanned(other, "an interface has methods only")),
        }
    }
    let declared = declare(&item, &methods);
    let proxy = proxy(&item, &methods);
    let object = object(interface, &item, &methods);
    Ok(quote! { #declared #proxy #object })
}

fn take_apart(mut function: TraitItemFn) -> syn::Result<Parts> {
    let settings = Method::take(&mut function.attrs)?;
    let signature = &function.sig;
    if signature.asyncness.is_none() {
        return Err(syn::Error::new_spanned(signature, "a method is an async fn"));
    }
    if !signature.generics.params.is_empty() {
        return Err(syn::Error::new_spanned(&signature.generics, "a method has no type parameters"));
    }
    let mut arguments = signature.inputs.iter();
    match arguments.next() {
        Some(FnArg::Receiver(receiver)) if matches!(receiver.kind, ReceiverKind::Reference(_, _, None)) => {}
        _ => return Err(syn::Error::new_spanned(signature, "a method takes &self")),
    }
    let mut inputs = Vec::new();
    for argument in arguments {
        let FnArg::Typed(argument) = argument else {
            return Err(syn::Error::new_spanned(argument, "a second receiver"));
        };
        let Pat::Ident(name) = &*argument.pat else {
            return Err(syn::Error::new_spanned(&argument.pat, "a parameter has a plain name"));
        };
        inputs.push(Input { name: name.ident.clone(), kind: kind(&argument.ty)? });
    }
    let result = match &signature.output {
        ReturnType::Type(_, output) => inside(output, "Result").cloned(),
        ReturnType::Default => None,
    };
    let Some(result) = result else {
        return Err(syn::Error::new_spanned(signature, "a method returns Result<…, Fault>"));
    };
    let items = items(&result)?;
    if items.is_some() && (settings.once || settings.secret) {
        return Err(syn::Error::new_spanned(
            &result,
            "a stream is neither `once` nor `secret`: it is not kept as a whole",
        ));
    }
    let name = match &settings.name {
        Some(name) => name.value(),
        None => signature.ident.to_string().trim_start_matches("r#").to_owned(),
    };
    let valid =
        !name.is_empty() && name.len() <= 64 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !valid || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(syn::Error::new_spanned(
            &signature.ident,
            "a method's name is an identifier of ASCII letters",
        ));
    }
    let summary = summary(&function.attrs);
    Ok(Parts { function, settings, summary, name, inputs, result, items })
}

fn kind(of: &Type) -> syn::Result<Kind> {
    if let Type::Reference(reference) = of {
        if is_named(&reference.elem, "Context") {
            return Ok(Kind::Context { by_reference: true });
        }
        return Err(syn::Error::new_spanned(of, "a parameter comes from far away and cannot be borrowed"));
    }
    Ok(if is_named(of, "Context") {
        Kind::Context { by_reference: false }
    } else if is_named(of, "Binary") {
        Kind::Binary
    } else if let Some(inner) = inside(of, "Option") {
        Kind::Optional(inner.clone())
    } else {
        Kind::Value(of.clone())
    })
}

fn is_named(of: &Type, name: &str) -> bool {
    matches!(of, Type::Path(path) if path.path.segments.last().is_some_and(|s| s.ident == name))
}

/// Returns `E` of `Result<…, E>`.
fn error(output: &Type) -> Option<&Type> {
    let Type::Path(path) = output else { return None };
    let PathArguments::AngleBracketed(arguments) = &path.path.segments.last()?.arguments else { return None };
    arguments.args.iter().rev().find_map(|argument| match argument {
        GenericArgument::Type(of) => Some(of),
        _ => None,
    })
}

/// Returns `T` of `Name<T, …>`.
fn inside<'a>(of: &'a Type, name: &str) -> Option<&'a Type> {
    let Type::Path(path) = of else { return None };
    let last = path.path.segments.last().filter(|s| s.ident == name)?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    arguments.args.iter().find_map(|a| match a {
        GenericArgument::Type(inner) => Some(inner),
        _ => None,
    })
}

/// Returns the items of `impl Stream<Item = T>`; `None` for another type.
fn items(result: &Type) -> syn::Result<Option<Items>> {
    let Type::ImplTrait(of) = result else { return Ok(None) };
    let item = of.bounds.iter().find_map(|bound| {
        let TypeParamBound::Trait(of) = bound else { return None };
        let last = of.path.segments.last().filter(|last| last.ident == "Stream")?;
        let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
        arguments.args.iter().find_map(|argument| match argument {
            GenericArgument::AssocType(item) if item.ident == "Item" => Some(item.ty.clone()),
            _ => None,
        })
    });
    let Some(item) = item else {
        return Err(syn::Error::new_spanned(result, "a result is a type, or impl Stream<Item = …>"));
    };
    Ok(Some(match inside(&item, "Result") {
        Some(of) => Items { of: of.clone(), fallible: true },
        None => Items { of: item, fallible: false },
    }))
}

/// Generates the trait itself, with futures that are `Send`.
fn declare(item: &ItemTrait, methods: &[Parts]) -> TokenStream {
    let ItemTrait { attrs, vis, ident, .. } = item;
    let supertraits = &item.supertraits;
    let more = if supertraits.is_empty() { quote!() } else { quote!(+ #supertraits) };
    let functions = methods.iter().map(|parts| {
        let TraitItemFn { attrs, sig, default, .. } = &parts.function;
        let (name, inputs) = (&sig.ident, &sig.inputs);
        let ReturnType::Type(_, output) = &sig.output else { unreachable!("looked at before") };
        let output = if let (Some(_), Type::ImplTrait(stream)) = (&parts.items, &parts.result) {
            let (bounds, error) = (&stream.bounds, error(output));
            quote!(::core::result::Result<impl #bounds + ::core::marker::Send, #error>)
        } else {
            quote!(#output)
        };
        let body = default.as_ref().map_or_else(|| quote!(;), |block| quote!({ async move #block }));
        quote! {
            #(#attrs)*
            fn #name(#inputs) -> impl ::core::future::Future<Output = #output> + ::core::marker::Send #body
        }
    });
    quote! {
        #(#attrs)*
        #vis trait #ident: ::core::marker::Send + ::core::marker::Sync + 'static #more {
            #(#functions)*
        }
    }
}

fn proxy(item: &ItemTrait, methods: &[Parts]) -> TokenStream {
    let (vis, ident) = (&item.vis, &item.ident);
    let name = format_ident!("{ident}Proxy");
    let about = format!("Calls an object of the interface [`{ident}`].");
    let functions = methods.iter().map(|parts| {
        let (method, on_bus, result) = (&parts.function.sig.ident, &parts.name, &parts.result);
        let docs = parts.function.attrs.iter().filter(|a| a.path().is_ident("doc"));
        let given: Vec<&Input> =
            parts.inputs.iter().filter(|i| !matches!(i.kind, Kind::Context { .. })).collect();
        let names: Vec<&Ident> = given.iter().map(|i| &i.name).collect();
        let types = given.iter().map(|i| match &i.kind {
            Kind::Binary => quote!(::rantai_client::object::Binary),
            Kind::Optional(of) => quote!(::core::option::Option<#of>),
            Kind::Value(of) => quote!(#of),
            Kind::Context { .. } => unreachable!("filtered out"),
        });
        let idempotent = parts.settings.idempotent.then(|| quote!(.idempotent()));
        // Hygienic: a parameter may have the same name.
        let request = Ident::new("request", Span::mixed_site());
        let with_params = match &given[..] {
            [] => quote!(),
            [Input { kind: Kind::Binary, name }] => quote!(let #request = #request.binary(#name.0);),
            _ => {
                let with_params = with_params(&request, &given);
                quote!(let #request = #with_params;)
            }
        };
        let call = quote! {
            let #request = self.0.clone() #idempotent.request(#on_bus);
            #with_params
        };
        if let Some(Items { of, .. }) = &parts.items {
            return quote! {
                #(#docs)*
                #vis async fn #method(
                    &self, #(#names: #types),*
                ) -> ::core::result::Result<::rantai_client::Items<#of>, ::rantai_client::CallError> {
                    #call
                    #request.stream().await
                }
            };
        }
        let read = if is_named(result, "Binary") {
            quote!(.bytes().map(::rantai_client::object::Binary))
        } else {
            quote!(.read())
        };
        quote! {
            #(#docs)*
            #vis async fn #method(
                &self, #(#names: #types),*
            ) -> ::core::result::Result<#result, ::rantai_client::CallError> {
                #call
                #request.send().await? #read
            }
        }
    });
    quote! {
        #[doc = #about]
        #[derive(Clone, Debug)]
        #vis struct #name(::rantai_client::Proxy);

        impl #name {
            /// Creates a proxy for the object with this name.
            #vis fn new(client: &::rantai_client::Client, object: &str) -> Self {
                Self(client.object(object))
            }

            #(#functions)*
        }

        impl ::core::convert::From<::rantai_client::Proxy> for #name {
            fn from(proxy: ::rantai_client::Proxy) -> Self {
                Self(proxy)
            }
        }
    }
}

/// Sets the parameters of a request, without the optional ones at the end that are `None`: an object whose method does not
/// have them yet refuses a longer list.
fn with_params(request: &Ident, given: &[&Input]) -> TokenStream {
    let names: Vec<&Ident> = given.iter().map(|input| &input.name).collect();
    let is_required = |input: &&Input| !matches!(input.kind, Kind::Optional(_));
    let required = given.iter().rposition(is_required).map_or(0, |last| last + 1);
    let least = match &names[..required] {
        [] => quote!(#request),
        names => quote!(#request.params((#(#names,)*))),
    };
    (required..names.len()).fold(least, |fewer, index| {
        let (optional, names) = (names[index], &names[..=index]);
        quote!(if #optional.is_some() { #request.params((#(#names,)*)) } else { #fewer })
    })
}

fn object(interface: &Interface, item: &ItemTrait, methods: &[Parts]) -> TokenStream {
    let (vis, ident) = (&item.vis, &item.ident);
    let name = format_ident!("{ident}Object");
    let about = format!("Serves what implements [`{ident}`].");
    let summary = summary(&item.attrs);
    let version = interface.version.as_ref().map_or_else(|| quote!(""), |v| quote!(#v));
    let tags = &interface.tags;
    let descriptions = methods.iter().map(describe);
    let events = interface.events.iter().map(|event| {
        let (event_name, carries, state) = (event.name.to_string(), &event.carries, event.state);
        quote! {
            ::rantai_client::object::Event {
                name: #event_name.into(),
                schema: schemas.of::<#carries>(),
                state: #state,
            }
        }
    });
    let arms = methods.iter().map(|parts| arm(ident, parts));
    let names = methods.iter().map(|parts| &parts.name);
    quote! {
        #[doc = #about]
        #[derive(Clone, Debug)]
        #vis struct #name<T>(#vis T);

        impl<T: #ident> ::rantai_client::object::Object for #name<T> {
            fn description(&self) -> ::rantai_client::object::Description {
                #[allow(unused_mut)]
                let mut schemas = ::rantai_client::object::Schemas::default();
                ::rantai_client::object::Description {
                    summary: #summary.into(),
                    version: #version.into(),
                    tags: vec![#(#tags.into()),*],
                    methods: vec![#(#descriptions),*],
                    events: vec![#(#events),*],
                    schemas: schemas.finish(),
                }
            }

            fn call(
                self: ::std::sync::Arc<Self>,
                call: ::rantai_client::object::Call,
            ) -> ::rantai_client::object::Answering {
                ::std::boxed::Box::pin(async move {
                    #[allow(unused_variables)]
                    let ::rantai_client::object::Call { method, params, context } = call;
                    match method.as_str() {
                        #(#arms)*
                        _ => ::core::result::Result::Err(
                            ::rantai_client::object::no_such_method(method.as_str(), &[#(#names),*]),
                        ),
                    }
                })
            }
        }
    }
}

fn describe(parts: &Parts) -> TokenStream {
    let (name, summary) = (&parts.name, &parts.summary);
    let super::attributes::Method { idempotent, read_only, once, secret, .. } = parts.settings;
    let params = parts.inputs.iter().filter_map(|input| {
        let name = input.name.to_string();
        let (required, schema) = match &input.kind {
            Kind::Context { .. } => return None,
            Kind::Binary => (true, quote!(::core::option::Option::None)),
            Kind::Optional(of) => (false, quote!(::core::option::Option::Some(schemas.of::<#of>()))),
            Kind::Value(of) => (true, quote!(::core::option::Option::Some(schemas.of::<#of>()))),
        };
        Some(quote! {
            ::rantai_client::object::Parameter { name: #name.into(), required: #required, schema: #schema }
        })
    });
    let of = &parts.result;
    let stream = parts.items.is_some();
    let result = match &parts.items {
        Some(Items { of, .. }) => quote!(::core::option::Option::Some(schemas.of::<::std::vec::Vec<#of>>())),
        None if is_named(of, "Binary") => quote!(::core::option::Option::None),
        None => quote!(::core::option::Option::Some(schemas.of::<#of>())),
    };
    let limit = parts.settings.time_limit_ms.as_ref();
    let limit = limit.map_or_else(
        || quote!(::core::option::Option::None),
        |limit| quote!(::core::option::Option::Some(#limit)),
    );
    quote! {
        ::rantai_client::object::Method {
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

fn arm(interface: &Ident, parts: &Parts) -> TokenStream {
    let (name, method) = (&parts.name, &parts.function.sig.ident);
    let names: Vec<String> = parts
        .inputs
        .iter()
        .filter(|i| !matches!(i.kind, Kind::Context { .. }))
        .map(|i| i.name.to_string().trim_start_matches("r#").to_owned())
        .collect();
    let takes = parts.inputs.iter().filter_map(|input| {
        let name = &input.name;
        let take = match &input.kind {
            Kind::Context { .. } => return None,
            Kind::Binary => quote!(arguments.take_binary()?),
            Kind::Optional(of) => quote!(arguments.take_optional::<#of>()?),
            Kind::Value(of) => quote!(arguments.take::<#of>()?),
        };
        Some(quote!(let #name = #take;))
    });
    let passed = parts.inputs.iter().map(|input| {
        let name = &input.name;
        match &input.kind {
            Kind::Context { by_reference: true } => quote!(&context),
            Kind::Context { by_reference: false } => quote!(context.clone()),
            _ => quote!(#name),
        }
    });
    let answer = match &parts.items {
        Some(Items { fallible: true, .. }) => quote!(context.try_stream(result).await),
        Some(Items { fallible: false, .. }) => quote!(context.stream(result).await),
        None if is_named(&parts.result, "Binary") => {
            quote!(::core::result::Result::Ok(::rantai_client::object::Answer::Binary(result.0)))
        }
        None => quote!(::rantai_client::object::Answer::value(&result)),
    };
    quote! {
        #name => {
            const NAMES: &[&str] = &[#(#names),*];
            #[allow(unused_mut, unused_variables)]
            let mut arguments = ::rantai_client::object::Arguments::new(params, NAMES)?;
            #(#takes)*
            let result = <T as #interface>::#method(&self.0, #(#passed),*).await?;
            #answer
        }
    }
}
