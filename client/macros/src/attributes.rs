//! Parser of `#[interface(…)]`, `#[method(…)]`, `#[arg(…)]` and doc comments.

use syn::ext::IdentExt as _;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, ExprLit, Ident, Lit, LitInt, LitStr, Meta, Path, Token, Type, parenthesized};

/// Arguments of `#[interface(…)]`.
#[derive(Default)]
pub(crate) struct Interface {
    pub(crate) version: Option<LitStr>,
    pub(crate) tags: Vec<LitStr>,
    pub(crate) events: Vec<Event>,
    /// Path of the crate that the generated code names.
    pub(crate) crate_path: Option<Path>,
}

pub(crate) struct Event {
    pub(crate) name: Ident,
    pub(crate) carries: Type,
    pub(crate) state: bool,
}

impl Event {
    /// Returns the name on the bus.
    pub(crate) fn on_bus(&self) -> String {
        self.name.unraw().to_string()
    }
}

impl Parse for Interface {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut interface = Self::default();
        while !input.is_empty() {
            let word = input.call(Ident::parse_any)?;
            match word.to_string().as_str() {
                "version" => {
                    input.parse::<Token![=]>()?;
                    interface.version = Some(input.parse()?);
                }
                "crate" => {
                    input.parse::<Token![=]>()?;
                    interface.crate_path = Some(input.parse::<LitStr>()?.parse()?);
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
                    let name: Ident = inner.parse()?;
                    inner.parse::<Token![:]>()?;
                    if interface.events.iter().any(|event| event.name == name) {
                        return Err(syn::Error::new(name.span(), format!("`{name}` is declared twice")));
                    }
                    interface.events.push(Event { name, carries: inner.parse()?, state: kind == "state" });
                }
                _ => {
                    return Err(syn::Error::new(
                        word.span(),
                        "expected `version`, `tags`, `event`, `state` or `crate`",
                    ));
                }
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
        for attribute in attributes.extract_if(.., |attribute| attribute.path().is_ident("method")) {
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
                    return Err(meta.error(
                        "expected `idempotent`, `read_only`, `once`, `secret`, `time_limit_ms` or `name`",
                    ));
                }
                if method.idempotent && method.once {
                    return Err(meta.error(
                        "a method that may be executed twice does not need `once`; remove one of the two",
                    ));
                }
                if method.secret && method.once {
                    return Err(meta.error(
                        "the result of a `once` method is stored on disk, so it cannot be `secret`; remove one \
                         of the two",
                    ));
                }
                Ok(())
            })?;
        }
        Ok(method)
    }
}

/// What `#[arg(…)]` says about a parameter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Argument {
    /// It is the context of the call, whatever the name of its type.
    Context,
    /// It is an ordinary parameter, although its type is named `Context`.
    Value,
}

impl Argument {
    /// Removes `#[arg(…)]` from the attributes of a parameter, and parses it.
    pub(crate) fn take(attributes: &mut Vec<Attribute>) -> syn::Result<Option<Self>> {
        let mut argument = None;
        for attribute in attributes.extract_if(.., |attribute| attribute.path().is_ident("arg")) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("context") {
                    argument = Some(Self::Context);
                } else if meta.path.is_ident("value") {
                    argument = Some(Self::Value);
                } else {
                    return Err(meta.error("expected `context` or `value`"));
                }
                Ok(())
            })?;
        }
        Ok(argument)
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
