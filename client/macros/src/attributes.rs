//! Parser of `#[interface(…)]`, `#[method(…)]` and doc comments.

use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, ExprLit, Ident, Lit, LitInt, LitStr, Meta, Token, Type, parenthesized};

/// Arguments of `#[interface(…)]`.
#[derive(Default)]
pub(crate) struct Interface {
    pub(crate) version: Option<LitStr>,
    pub(crate) tags: Vec<LitStr>,
    pub(crate) events: Vec<Event>,
}

pub(crate) struct Event {
    pub(crate) name: Ident,
    pub(crate) carries: Type,
    pub(crate) state: bool,
}

impl Parse for Interface {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut interface = Self::default();
        while !input.is_empty() {
            let word: Ident = input.parse()?;
            match word.to_string().as_str() {
                "version" => {
                    input.parse::<Token![=]>()?;
                    interface.version = Some(input.parse()?);
                }
                "tags" => {
                    let inner;
                    parenthesized!(inner in input);
                    let tags = Punctuated::<LitStr, Token![,]>::parse_terminated(&inner)?;
                    interface.tags.extend(tags);
                }
                kind @ ("event" | "state") => {
                    let inner;
                    parenthesized!(inner in input);
                    let name = inner.parse()?;
                    inner.parse::<Token![:]>()?;
                    interface.events.push(Event { name, carries: inner.parse()?, state: kind == "state" });
                }
                _ => return Err(syn::Error::new(word.span(), "expected version, tags, event or state")),
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(interface)
    }
}

/// Arguments of `#[method(…)]`.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a word that stands there or not")]
pub(crate) struct Method {
    pub(crate) idempotent: bool,
    pub(crate) read_only: bool,
    pub(crate) once: bool,
    pub(crate) secret: bool,
    pub(crate) time_limit_ms: Option<LitInt>,
    pub(crate) name: Option<LitStr>,
}

impl Method {
    /// Removes `#[method(…)]` from the attributes of a method, and parses it.
    pub(crate) fn take(attributes: &mut Vec<Attribute>) -> syn::Result<Self> {
        let mut method = Self::default();
        let mut kept = Vec::new();
        for attribute in attributes.drain(..) {
            if !attribute.path().is_ident("method") {
                kept.push(attribute);
                continue;
            }
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("idempotent") {
                    method.idempotent = true;
                } else if meta.path.is_ident("read_only") {
                    // A method that changes nothing may be executed twice.
                    (method.read_only, method.idempotent) = (true, true);
                } else if meta.path.is_ident("once") {
                    method.once = true;
                } else if meta.path.is_ident("secret") {
                    method.secret = true;
                } else if meta.path.is_ident("time_limit_ms") {
                    method.time_limit_ms = Some(meta.value()?.parse()?);
                } else if meta.path.is_ident("name") {
                    method.name = Some(meta.value()?.parse()?);
                } else {
                    return Err(
                        meta.error("expected idempotent, read_only, once, secret, time_limit_ms or name")
                    );
                }
                if method.idempotent && method.once {
                    return Err(meta.error("what may be carried out twice needs no `once`"));
                }
                if method.secret && method.once {
                    return Err(
                        meta.error("the answer of a `once` method is kept on disk: it cannot be secret")
                    );
                }
                Ok(())
            })?;
        }
        *attributes = kept;
        Ok(method)
    }
}

/// Returns the first paragraph of a doc comment, in one line.
pub(crate) fn summary(attributes: &[Attribute]) -> String {
    let mut words: Vec<String> = Vec::new();
    for attribute in attributes {
        let Meta::NameValue(meta) = &attribute.meta else { continue };
        if !meta.path.is_ident("doc") {
            continue;
        }
        let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = &meta.value else { continue };
        let text = text.value();
        if text.trim().is_empty() && !words.is_empty() {
            break;
        }
        words.push(text.trim().to_owned());
    }
    words.join(" ").trim().to_owned()
}
