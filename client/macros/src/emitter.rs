//! Generates the typed emitter of an interface's events.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::ItemTrait;

use crate::attributes::Interface;

/// Generates the emitter; nothing if the interface declares no events.
pub(crate) fn emitter(private: &TokenStream, interface: &Interface, item: &ItemTrait) -> TokenStream {
    if interface.events.is_empty() {
        return TokenStream::new();
    }
    let (vis, ident) = (&item.vis, &item.ident);
    let name = format_ident!("{ident}Emitter");
    let about = format!("Publishes the events of the interface [`{ident}`].");
    let functions = interface.events.iter().map(|event| {
        let (method, on_bus, carries) = (&event.name, event.on_bus(), &event.carries);
        let (kind, about) = if event.state {
            (quote!(StateEmitter), format!("Returns what publishes the state `{on_bus}`."))
        } else {
            (quote!(EventEmitter), format!("Returns what publishes the event `{on_bus}`."))
        };
        quote! {
            #[doc = #about]
            #vis fn #method(&self) -> #private::#kind<'_, #carries> {
                #private::#kind::new(&self.0, #on_bus)
            }
        }
    });
    quote! {
        #[doc = #about]
        #[derive(Clone, Debug)]
        #[allow(dead_code)]
        #vis struct #name(#private::Emitter);

        #[allow(dead_code)]
        impl #name {
            #(#functions)*
        }

        impl ::core::convert::From<#private::Emitter> for #name {
            fn from(emitter: #private::Emitter) -> Self {
                Self(emitter)
            }
        }

        impl ::core::convert::From<&#private::Context> for #name {
            fn from(context: &#private::Context) -> Self {
                Self(context.emitter.clone())
            }
        }
    }
}
