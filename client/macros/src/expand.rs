//! Expansion of a trait into its interface, proxy, object and emitter.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{ItemTrait, ReturnType, TraitItem, TraitItemFn, Type};

use crate::attributes::Interface;
use crate::emitter::emitter;
use crate::method::{Parts, error};
use crate::object::object;
use crate::proxy::{proxy, subscriptions};

/// Expands a trait, whose code names the crate at `crate_path` unless the arguments say another.
pub(crate) fn expand(
    interface: &Interface,
    crate_path: &TokenStream,
    mut item: ItemTrait,
) -> syn::Result<TokenStream> {
    let crate_path = interface.crate_path.as_ref().map_or_else(|| crate_path.clone(), |path| quote!(#path));
    let private = quote!(#crate_path::__private);
    if !item.generics.params.is_empty() {
        let text = "an interface has no type parameters, as callers are in other processes";
        return Err(syn::Error::new_spanned(&item.generics, text));
    }
    let methods = methods(std::mem::take(&mut item.items))?;
    check_names(interface, &methods)?;
    let declared = declare(&private, &item, &methods);
    let proxy = proxy(&private, interface, &item, &methods);
    let object = object(&private, interface, &item, &methods);
    let emitter = emitter(&private, interface, &item);
    Ok(quote! { #declared #proxy #object #emitter })
}

/// Takes all methods apart, and reports what is wrong with any of them.
fn methods(items: Vec<TraitItem>) -> syn::Result<Vec<Parts>> {
    let (mut methods, mut wrong) = (Vec::new(), None::<syn::Error>);
    for item in items {
        let parts = match item {
            TraitItem::Fn(function) => Parts::new(function),
            other => Err(syn::Error::new_spanned(other, "an interface has only methods")),
        };
        match parts {
            Ok(parts) => methods.push(parts),
            Err(error) => match &mut wrong {
                Some(wrong) => wrong.combine(error),
                None => wrong = Some(error),
            },
        }
    }
    wrong.map_or(Ok(methods), Err)
}

/// Checks that no method has the name of another, on the bus and in the proxy.
fn check_names(interface: &Interface, methods: &[Parts]) -> syn::Result<()> {
    let subscriptions: Vec<String> = interface.events.iter().flat_map(subscriptions).collect();
    for (index, parts) in methods.iter().enumerate() {
        let written = &parts.function.sig.ident;
        let span = parts.settings.name.as_ref().map_or_else(|| written.span(), syn::LitStr::span);
        let wrong = |span: Span, text: String| Err(syn::Error::new(span, text));
        if methods[..index].iter().any(|other| other.name == parts.name) {
            return wrong(span, format!("two methods are named `{}` on the bus", parts.name));
        }
        if subscriptions.iter().any(|subscription| written == subscription) || written == "new" {
            return wrong(
                written.span(),
                format!(
                    "the proxy has a `{written}` of its own; write another name, and `name = \"{written}\"`"
                ),
            );
        }
    }
    Ok(())
}

/// Generates the trait itself, with futures that are `Send`.
fn declare(private: &TokenStream, item: &ItemTrait, methods: &[Parts]) -> TokenStream {
    let ItemTrait { attrs, vis, ident, .. } = item;
    let supertraits = &item.supertraits;
    let more = if supertraits.is_empty() { quote!() } else { quote!(+ #supertraits) };
    let functions = methods.iter().map(|parts| {
        let TraitItemFn { attrs, sig, default, .. } = &parts.function;
        let (name, inputs) = (&sig.ident, &sig.inputs);
        let ReturnType::Type(_, output) = &sig.output else { unreachable!("looked at before") };
        let output = if let (Some(_), Type::ImplTrait(stream)) = (&parts.items, &parts.result) {
            let error = error(output).map_or_else(|| quote!(#private::Fault), |error| quote!(#error));
            let bounds = &stream.bounds;
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
