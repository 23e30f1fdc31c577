//! Methods of a trait, taken apart.

use proc_macro2::Span;
use syn::ext::IdentExt as _;
use syn::{
    FnArg, GenericArgument, Ident, Pat, PathArguments, ReceiverKind, ReturnType, TraitItemFn, Type,
    TypeParamBound,
};

use crate::attributes::{Argument, Method, summary};

/// Maximum length of a method's name.
const LONGEST_NAME: usize = 64;
/// Types that are neither optional nor binary, so that the proxy need not look at their values.
const PLAIN_TYPES: [&str; 17] = [
    "bool", "char", "f32", "f64", "i8", "i16", "i32", "i64", "i128", "isize", "u8", "u16", "u32", "u64",
    "u128", "usize", "String",
];

/// Parsed method.
pub(crate) struct Parts {
    pub(crate) function: TraitItemFn,
    pub(crate) settings: Method,
    pub(crate) summary: String,
    /// Name on the bus.
    pub(crate) name: String,
    pub(crate) inputs: Vec<Input>,
    pub(crate) result: Type,
    /// Items of the stream; `None` if the result is not a stream.
    pub(crate) items: Option<Items>,
}

/// Items of a stream.
pub(crate) struct Items {
    pub(crate) of: Type,
    /// Whether the item type is `Result<T, Fault>`.
    pub(crate) fallible: bool,
}

pub(crate) struct Input {
    pub(crate) name: Ident,
    pub(crate) kind: Kind,
}

impl Input {
    /// Returns the name on the bus.
    pub(crate) fn on_bus(&self) -> String {
        self.name.unraw().to_string()
    }

    /// Returns the type of a parameter that is sent; `None` for the context of the call.
    pub(crate) fn sent(&self) -> Option<&Type> {
        match &self.kind {
            Kind::Value(of) => Some(of),
            Kind::Context { .. } => None,
        }
    }
}

/// Kind of a parameter.
pub(crate) enum Kind {
    /// Context of the call. The type is without the reference.
    Context { of: Type, by_reference: bool },
    /// Parameter that is sent. Whether it is optional or binary is decided by its type, in the generated code.
    Value(Type),
}

impl Parts {
    /// Takes a method of the trait apart, and removes the attributes of this macro from it.
    pub(crate) fn new(mut function: TraitItemFn) -> syn::Result<Self> {
        let settings = Method::take(&mut function.attrs)?;
        let signature = &mut function.sig;
        if signature.asyncness.is_none() {
            return Err(syn::Error::new_spanned(&*signature, "a method of an interface is an `async fn`"));
        }
        if !signature.generics.params.is_empty() {
            let text = "a method of an interface has no type parameters, as callers are in other processes";
            return Err(syn::Error::new_spanned(&signature.generics, text));
        }
        let mut arguments = signature.inputs.iter_mut();
        match arguments.next() {
            Some(FnArg::Receiver(receiver))
                if matches!(receiver.kind, ReceiverKind::Reference(_, _, None)) => {}
            _ => return Err(syn::Error::new_spanned(&*signature, "a method of an interface takes `&self`")),
        }
        let inputs = arguments.map(input).collect::<syn::Result<Vec<_>>>()?;
        check_binary(&inputs)?;
        let result = match &signature.output {
            ReturnType::Type(_, output) => inside(output, "Result").cloned(),
            ReturnType::Default => None,
        };
        let Some(result) = result else {
            let text = "a method of an interface returns `Result<…, Fault>`";
            return Err(syn::Error::new_spanned(&*signature, text));
        };
        let items = items(&result)?;
        if items.is_some() && (settings.once || settings.secret) {
            let text = "a stream is not stored as a whole, so it is neither `once` nor `secret`";
            return Err(syn::Error::new_spanned(&result, text));
        }
        let (name, span) = match &settings.name {
            Some(name) => (name.value(), name.span()),
            None => (signature.ident.unraw().to_string(), signature.ident.span()),
        };
        check_name(&name, span)?;
        let summary = summary(&function.attrs);
        Ok(Self { function, settings, summary, name, inputs, result, items })
    }

    /// Returns the parameters that are sent, with their types.
    pub(crate) fn sent(&self) -> Vec<(&Ident, &Type)> {
        self.inputs.iter().filter_map(|input| Some((&input.name, input.sent()?))).collect()
    }
}

fn check_name(name: &str, span: Span) -> syn::Result<()> {
    let valid = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !valid
        || name.is_empty()
        || name.len() > LONGEST_NAME
        || name.starts_with(|c: char| c.is_ascii_digit())
    {
        let text = format!(
            "the name of a method is 1 to {LONGEST_NAME} ASCII letters, digits and underscores, and does not \
             begin with a digit"
        );
        return Err(syn::Error::new(span, text));
    }
    Ok(())
}

fn input(argument: &mut FnArg) -> syn::Result<Input> {
    let FnArg::Typed(argument) = argument else {
        return Err(syn::Error::new_spanned(argument, "a second receiver"));
    };
    let says = Argument::take(&mut argument.attrs)?;
    let Pat::Ident(name) = &*argument.pat else {
        return Err(syn::Error::new_spanned(&argument.pat, "a parameter of an interface has a plain name"));
    };
    Ok(Input { name: name.ident.clone(), kind: kind(&argument.ty, says)? })
}

fn kind(of: &Type, says: Option<Argument>) -> syn::Result<Kind> {
    let (inner, by_reference) = match of {
        Type::Reference(reference) => (&*reference.elem, true),
        other => (other, false),
    };
    let is_context = match says {
        Some(says) => says == Argument::Context,
        None => is_named(inner, "Context"),
    };
    if is_context {
        return Ok(Kind::Context { of: inner.clone(), by_reference });
    }
    if by_reference {
        let text = "a parameter arrives from another process and cannot be borrowed; take it by value, such as \
                    `String` instead of `&str`";
        return Err(syn::Error::new_spanned(of, text));
    }
    Ok(Kind::Value(of.clone()))
}

/// Checks that a binary parameter is the only one, where its name is enough to know.
fn check_binary(inputs: &[Input]) -> syn::Result<()> {
    let sent: Vec<&Type> = inputs.iter().filter_map(Input::sent).collect();
    match sent.iter().find(|of| is_named(of, "Binary")) {
        Some(binary) if sent.len() > 1 => {
            let text =
                "the bytes of a `Binary` are the whole payload of a request, so it is the only parameter";
            Err(syn::Error::new_spanned(binary, text))
        }
        _ => Ok(()),
    }
}

/// Returns whether a type is neither optional nor binary, where its name is enough to know. Otherwise the generated code looks at
/// the value, which gives the same requests.
pub(crate) fn is_plain(of: &Type) -> bool {
    match of {
        Type::Path(path) => {
            path.path.get_ident().is_some_and(|name| PLAIN_TYPES.iter().any(|plain| name == plain))
        }
        Type::Tuple(_) | Type::Array(_) => true,
        _ => false,
    }
}

fn is_named(of: &Type, name: &str) -> bool {
    matches!(of, Type::Path(path) if path.path.segments.last().is_some_and(|s| s.ident == name))
}

/// Returns `E` of `Result<T, E>`; `None` if it has no second type.
pub(crate) fn error(output: &Type) -> Option<&Type> {
    types_in(output).nth(1)
}

/// Returns `T` of `Name<T, …>`.
fn inside<'a>(of: &'a Type, name: &str) -> Option<&'a Type> {
    if is_named(of, name) { types_in(of).next() } else { None }
}

/// Returns the types between the angle brackets of the last segment.
fn types_in(of: &Type) -> impl Iterator<Item = &Type> {
    let last = match of {
        Type::Path(path) => path.path.segments.last(),
        _ => None,
    };
    let arguments = last.and_then(|last| match &last.arguments {
        PathArguments::AngleBracketed(arguments) => Some(&arguments.args),
        _ => None,
    });
    arguments.into_iter().flatten().filter_map(|argument| match argument {
        GenericArgument::Type(of) => Some(of),
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
        return Err(syn::Error::new_spanned(result, "a result is a type, or `impl Stream<Item = …>`"));
    };
    Ok(Some(match inside(&item, "Result") {
        Some(of) => Items { of: of.clone(), fallible: true },
        None => Items { of: item, fallible: false },
    }))
}
