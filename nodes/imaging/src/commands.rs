//! Methods by name, with arguments as on a command line: the known methods and their numbers of arguments. Arguments are
//! checked here even if the caller has checked them before.

use rantai_client::wire::fault::Fault;

use super::reply::{Problem, Status};
use super::settings::ImagingSettings;

/// Maximum length of the method and of each argument, in bytes, and maximum number of arguments.
const MAX_ARGUMENT_BYTES: usize = 1 << 10;
const MAX_ARGUMENTS: usize = 16;

/// Methods: name, minimum and maximum number of arguments, and whether the method changes anything.
const METHODS: [(&str, usize, usize, bool); 12] = [
    ("provision", 1, 3, true),
    ("detach_node", 1, 1, true),
    ("create_snapshot", 2, 2, true),
    ("list_all_images", 0, 0, false),
    ("list_snaps", 1, 1, false),
    ("remove_snaps", 2, 2, true),
    ("list_nodes", 0, 0, false),
    ("image_info", 1, 1, false),
    ("import", 1, 2, true),
    ("export", 2, 3, true),
    ("rename", 2, 2, true),
    ("remove_image", 1, 1, true),
];

/// Requested method and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) args: Vec<String>,
}

impl Asked {
    /// Creates a request; fails if the method or the arguments are too long.
    pub(super) fn new(method: &str, args: Vec<String>) -> Result<Self, Fault> {
        if method.len() > MAX_ARGUMENT_BYTES
            || args.len() > MAX_ARGUMENTS
            || args.iter().any(|arg| arg.len() > MAX_ARGUMENT_BYTES)
        {
            return Err(Fault::too_large(MAX_ARGUMENT_BYTES));
        }
        Ok(Self { method: method.to_owned(), args })
    }

    /// Creates a request of a typed method, whose arguments end at the first `None`.
    pub(super) fn typed(method: &str, args: Vec<Option<String>>) -> Result<Self, Fault> {
        Self::new(method, args.into_iter().map_while(|arg| arg).collect())
    }

    pub(super) fn changes(&self) -> bool {
        METHODS.iter().any(|(name, .., changes)| *name == self.method && *changes)
    }
}

/// Returns the arguments, with defaults in place of missing ones.
pub(super) fn arguments(asked: &Asked, settings: &ImagingSettings) -> Result<[String; 3], Problem> {
    let Asked { method, args } = asked;
    let known = METHODS.iter().find(|(name, ..)| name == method);
    let (name, least, most, _) = known.ok_or_else(|| unsupported(method))?;
    if !(*least..=*most).contains(&args.len()) {
        let takes = if least == most { least.to_string() } else { format!("{least} to {most}") };
        let text = format!("{name} takes {takes} arguments, not {}", args.len());
        return Err(Problem::new(Status::OutOfRange, text));
    }
    let given = |index: usize| args.get(index).cloned();
    let first = given(0).unwrap_or_default();
    let (second, third) = match &**name {
        "provision" => (
            given(1).unwrap_or_else(|| settings.image.clone()),
            given(2).unwrap_or_else(|| settings.snapshot.clone()),
        ),
        "import" => (given(1).unwrap_or_else(|| first.clone()), String::new()),
        "export" => {
            let snapshot = given(1).unwrap_or_default();
            (snapshot.clone(), given(2).unwrap_or(snapshot))
        }
        _ => (given(1).unwrap_or_default(), String::new()),
    };
    Ok([first, second, third])
}

pub(super) fn unsupported(method: &str) -> Problem {
    let names: Vec<&str> = METHODS.iter().map(|(name, ..)| *name).collect();
    Problem::new(Status::Unsupported, format!("no method {method:?}; there are {}", names.join(", ")))
}
