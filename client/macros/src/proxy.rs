//! Generates the typed proxy of an interface.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{Ident, ItemTrait, Type};

use crate::attributes::{Event, Interface};
use crate::method::{Items, Parts, is_plain};

pub(crate) fn proxy(
    private: &TokenStream,
    interface: &Interface,
    item: &ItemTrait,
    methods: &[Parts],
) -> TokenStream {
    let (vis, ident) = (&item.vis, &item.ident);
    let name = format_ident!("{ident}Proxy");
    let about = format!("Calls an object of the interface [`{ident}`].");
    let calls = methods.iter().map(|parts| call(private, item, parts));
    let events = interface.events.iter().map(|event| subscribe(private, item, event));
    let events = if interface.events.is_empty() {
        quote!()
    } else {
        quote! {
            #[allow(dead_code)]
            impl #name {
                #(#events)*
            }
        }
    };
    quote! {
        #[doc = #about]
        #[derive(Clone, Debug)]
        #vis struct #name(#private::Proxy);

        impl #name {
            /// Creates a proxy for the object with this name.
            #vis fn new(client: &#private::Client, object: &str) -> Self {
                Self(client.object(object))
            }

            #(#calls)*
        }

        #events

        impl ::core::convert::From<#private::Proxy> for #name {
            fn from(proxy: #private::Proxy) -> Self {
                Self(proxy)
            }
        }
    }
}

/// Generates the method of the proxy that calls a method.
fn call(private: &TokenStream, item: &ItemTrait, parts: &Parts) -> TokenStream {
    let (vis, method, on_bus) = (&item.vis, &parts.function.sig.ident, &parts.name);
    let docs = parts.function.attrs.iter().filter(|a| a.path().is_ident("doc"));
    let sent = parts.sent();
    let (names, types): (Vec<&Ident>, Vec<&Type>) = sent.iter().copied().unzip();
    let idempotent = parts.settings.idempotent.then(|| quote!(.idempotent()));
    // Hygienic: a parameter may have the same name.
    let request = Ident::new("request", Span::mixed_site());
    let with_params = with_params(private, &request, &sent);
    let call = quote! {
        #[allow(unused_imports)]
        use #private::AnyType as _;
        let #request = self.0.clone() #idempotent.request(#on_bus);
        let #request = #with_params;
    };
    let (of, read) = match (&parts.items, &parts.result) {
        (Some(Items { of, .. }), _) => (quote!(#private::Items<#of>), quote!(#request.stream().await)),
        (None, of) => (quote!(#of), quote!(#private::ByType::<#of>::read(#request.send().await?))),
    };
    quote! {
        #(#docs)*
        #vis async fn #method(&self, #(#names: #types),*) -> ::core::result::Result<#of, #private::CallError> {
            #call
            #read
        }
    }
}

/// Sets the parameters of a request, without the optional ones at the end that are `None`: an object whose method does not
/// have them yet refuses a longer list.
fn with_params(private: &TokenStream, request: &Ident, sent: &[(&Ident, &Type)]) -> TokenStream {
    // How the parameters up to this one are set.
    let up_to = |index: usize| {
        let names = sent[..=index].iter().map(|(name, _)| name);
        match sent {
            [(name, of)] if !is_plain(of) => quote_spanned! { of.span() =>
                #private::ByType::<#of>::param(#request, #name)
            },
            _ => quote!(#request.params((#(#names,)*))),
        }
    };
    let required = sent.iter().rposition(|(_, of)| is_plain(of));
    let least = required.map_or_else(|| quote!(#request), up_to);
    (required.map_or(0, |last| last + 1)..sent.len()).fold(least, |fewer, index| {
        let (name, of) = sent[index];
        let more = up_to(index);
        quote!(if #private::ByType::<#of>::is_absent(&#name) { #fewer } else { #more })
    })
}

/// Returns the names of the proxy's methods that subscribe to an event.
pub(crate) fn subscriptions(event: &Event) -> Vec<String> {
    let name = event.on_bus();
    let mut names = vec![format!("{name}_events")];
    if !event.state {
        names.push(format!("{name}_upcalls"));
    }
    names
}

/// Generates the methods of the proxy that subscribe to an event.
fn subscribe(private: &TokenStream, item: &ItemTrait, event: &Event) -> TokenStream {
    let (vis, on_bus, carries) = (&item.vis, event.on_bus(), &event.carries);
    let functions = subscriptions(event).into_iter().enumerate().map(|(index, name)| {
        let method = Ident::new(&name, Span::call_site());
        let (subscribe, about) = match (index, event.state) {
            (0, true) => (
                quote!(events),
                format!("Subscribes to the state `{on_bus}`: its last value, and those that follow."),
            ),
            (0, false) => (
                quote!(events),
                format!("Subscribes to the event `{on_bus}` that is published to everybody."),
            ),
            _ => (
                quote!(upcalls),
                format!("Subscribes to the event `{on_bus}` that is published to this client alone."),
            ),
        };
        quote! {
            #[doc = #about]
            #vis async fn #method(
                &self,
            ) -> ::core::result::Result<#private::Events<#carries>, #private::CallError> {
                self.0.#subscribe(#on_bus).await
            }
        }
    });
    quote!(#(#functions)*)
}
