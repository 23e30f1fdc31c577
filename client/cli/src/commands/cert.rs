//! `rantai cert`: a private certificate authority, and the certificates that it signs.

use std::path::{Path, PathBuf};

use rantai_access::check_user_name;
use rantai_tls::FileError;
use serde_json::Value;

use crate::certificates::{
    About, Authority, Folder, Host, Listed, Only, Pair, Subject, WithKey, check_key, date, now,
    of_this_machine, revoke, revoked_serials,
};
use crate::connection::{note, print};
use crate::exit::{Exit, Failure};
use crate::private_file::is_open_to_others;
use crate::terminal::print_json;

/// Default validity: the longest that browsers accept of a server's certificate, minus a day for clock differences.
const DEFAULT_DAYS: i64 = 397;

const EXAMPLES: &str = "\
Examples:
  rantai cert ca site                      an authority in the folder site
  rantai cert server site                  a server that is reached by the names of this machine
  rantai cert server site --name pi.local --name 192.168.1.5
                                           by these names instead
  rantai cert client site ada              a client, the user ada
  rantai cert renew site --within 30       what ends within 30 days, with the same keys
  rantai cert revoke site ada              ada's certificates are not taken any more
  rantai cert show site/server.pem         names, issuer and days left
  rantai cert show site/crl.pem            what is revoked

Clients need ca.pem alone (--ca). ca.key signs: whoever has it can pretend to be any server. A broker reads certificates and \
revocations again by itself when the files change.

Exit codes: 0 done, 1 failed, 2 wrong command line or file.";

/// Make and renew certificates for TLS, signed by an authority of your own
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Cert {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Make an authority: ca.pem, ca.key and an empty crl.pem, for ten years
    Ca {
        #[arg(value_name = "DIR", help = FOLDER)]
        folder: PathBuf,
        /// Its name [default: Rantai of HOST]
        #[arg(long, value_name = "TEXT")]
        name: Option<String>,
        /// The only names (with those below them) and networks that it may sign for: for an authority that browsers trust
        #[arg(long, value_name = "NAME|NETWORK")]
        only: Vec<Only>,
        /// Replace the authority that is there; clients then need the new ca.pem, and all certificates have to be made again
        #[arg(long)]
        force: bool,
    },
    /// Make the certificate and key of a server: server.pem and server.key
    Server {
        #[arg(value_name = "DIR", help = FOLDER)]
        folder: PathBuf,
        /// A host name or address that clients reach it by; without any those of this machine
        #[arg(long, value_name = "HOST|IP")]
        name: Vec<Host>,
        /// Name of the two files, where there are several servers
        #[arg(long = "as", value_name = "NAME", default_value = "server")]
        file: String,
        #[command(flatten)]
        new: New,
    },
    /// Make the certificate and key of a client, which identify a user: clients/NAME.pem and clients/NAME.key
    Client {
        #[arg(value_name = "DIR", help = FOLDER)]
        folder: PathBuf,
        /// The user
        #[arg(value_name = "NAME")]
        name: String,
        #[command(flatten)]
        new: New,
    },
    /// Make the certificates of all servers and clients anew, with the same names; the authority stays
    Renew {
        #[arg(value_name = "DIR", help = FOLDER)]
        folder: PathBuf,
        /// Only those that end within this many days
        #[arg(long, value_name = "DAYS")]
        within: Option<i64>,
        /// With new keys instead of the same ones
        #[arg(long)]
        new_keys: bool,
        /// Days that they last
        #[arg(long, value_name = "N", default_value_t = DEFAULT_DAYS, value_parser = clap::value_parser!(i64).range(1..=36_500))]
        days: i64,
    },
    /// Revoke all certificates of a client, in crl.pem
    Revoke {
        #[arg(value_name = "DIR", help = FOLDER)]
        folder: PathBuf,
        /// The user
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Show what the certificates or the revocation lists of a file say
    Show {
        /// A PEM file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(clap::Args)]
struct New {
    /// Days that it lasts
    #[arg(long, value_name = "N", default_value_t = DEFAULT_DAYS, value_parser = clap::value_parser!(i64).range(1..=36_500))]
    days: i64,
    /// Make a new key and certificate in the place of those that are there
    #[arg(long)]
    force: bool,
}

const FOLDER: &str = "The folder of the authority";

impl Cert {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::Ca { folder, name, only, force } => authority(&folder, name, &only, force),
            Action::Server { folder, name, file, new } => server(&folder, name, &file, &new),
            Action::Client { folder, name, new } => client(&folder, &name, &new),
            Action::Renew { folder, within, new_keys, days } => renew(&folder, within, new_keys, days),
            Action::Revoke { folder, name } => revoke_client(&folder, &name),
            Action::Show { file, json } => show(&file, json),
        }
    }
}

fn authority(path: &Path, name: Option<String>, only: &[Only], force: bool) -> Result<(), Failure> {
    let folder = Folder::make(path)?;
    folder.authority().check_free(force)?;
    let name = name.unwrap_or_else(|| format!("Rantai of {}", of_this_machine()[0]));
    if name.trim().is_empty() || name.contains(char::is_control) {
        return Err(Failure::new(
            Exit::Usage,
            "the name of an authority is neither empty nor has control characters in it",
        ));
    }
    Authority::create(&folder, &name, only)?;
    let pair = folder.authority();
    note(&format!("made the authority {name:?}: {}", files(&pair)));
    note(&format!(
        "give {} to clients, and keep {} to yourself",
        pair.certificate.display(),
        pair.key.display()
    ));
    Ok(())
}

fn server(path: &Path, names: Vec<Host>, file: &str, new: &New) -> Result<(), Failure> {
    if file.is_empty() || file == "ca" || file == "crl" || file.contains(['/', '\0']) || file.starts_with('.')
    {
        return Err(Failure::new(
            Exit::Usage,
            format!("--as {file:?} is no name for a server's files; take letters and digits"),
        ));
    }
    let folder = Folder::open(path)?;
    let pair = folder.server(file);
    pair.check_free(new.force)?;
    let names = if names.is_empty() { of_this_machine() } else { names };
    let about = load(&folder)?.issue(&folder, &pair, &Subject::Server(names), WithKey::New, new.days)?;
    note(&format!(
        "made a certificate for {}, until {}: {}",
        about.names().join(", "),
        date(about.ends),
        files(&pair)
    ));
    Ok(())
}

fn client(path: &Path, name: &str, new: &New) -> Result<(), Failure> {
    check_user_name(name).map_err(|error| Failure::from_error(Exit::Usage, &error))?;
    let folder = Folder::open(path)?;
    let pair = folder.client(name);
    pair.check_free(new.force)?;
    let about =
        load(&folder)?.issue(&folder, &pair, &Subject::Client(name.to_owned()), WithKey::New, new.days)?;
    note(&format!("made a certificate for the user {name}, until {}: {}", date(about.ends), files(&pair)));
    Ok(())
}

fn renew(path: &Path, within: Option<i64>, new_keys: bool, days: i64) -> Result<(), Failure> {
    let folder = Folder::open(path)?;
    let authority = load(&folder)?;
    let (revoked, now) = (revoked_serials(&folder)?, now()?);
    let (servers, clients) = folder.pairs()?;
    let mut renewed = 0;
    for (pair, is_client) in
        servers.iter().map(|pair| (pair, false)).chain(clients.iter().map(|pair| (pair, true)))
    {
        let about = pair.about()?;
        let shown = pair.certificate.display();
        if within.is_some_and(|within| about.days_left(now) >= within) {
            continue;
        }
        if revoked.contains(&about.serial) {
            note(&format!("left out {shown}: it is revoked"));
            continue;
        }
        let key = pair.read_key()?;
        check_key(pair, &about, &key)?;
        let subject = if is_client { Subject::Client(about.subject) } else { Subject::Server(about.hosts) };
        let key = if new_keys { WithKey::Renewed } else { WithKey::Same(Box::new(key)) };
        let about = authority.issue(&folder, pair, &subject, key, days)?;
        note(&format!("renewed {shown}, until {}", date(about.ends)));
        renewed += 1;
    }
    if renewed == 0 {
        note("nothing to renew");
    }
    Ok(())
}

fn revoke_client(path: &Path, name: &str) -> Result<(), Failure> {
    let folder = Folder::open(path)?;
    let authority = load(&folder)?;
    match revoke(&folder, &authority, name)? {
        0 => {
            let text = format!("no certificate of {name:?} that is still taken in {}", path.display());
            Err(Failure::new(Exit::Failed, text))
        }
        count => {
            let list = folder.revocations();
            note(&format!(
                "revoked {count} of {name} in {}; the broker reads it by `revocations`",
                list.display()
            ));
            Ok(())
        }
    }
}

fn show(file: &Path, json: bool) -> Result<(), Failure> {
    let certificates = match rantai_tls::read_certificates(file) {
        Ok(certificates) => certificates,
        Err(FileError::Missing { .. }) if rantai_tls::read_revocations(file).is_ok() => {
            return show_lists(file, json);
        }
        Err(error) => return Err(Failure::from_error(Exit::Usage, &error)),
    };
    let read = certificates.iter().map(|certificate| About::read(certificate));
    let all: Vec<About> = read.collect::<Result<_, _>>().map_err(|reason| {
        Failure::new(Exit::Usage, format!("cannot read a certificate in {}: {reason}", file.display()))
    })?;
    let now = chrono::Utc::now().timestamp();
    if json {
        print_json(&Value::Array(all.iter().map(|about| about.to_json(now)).collect()));
        return Ok(());
    }
    for (at, about) in all.iter().enumerate() {
        if at > 0 {
            print("");
        }
        describe(about, now);
    }
    Ok(())
}

fn show_lists(file: &Path, json: bool) -> Result<(), Failure> {
    let lists =
        rantai_tls::read_revocations(file).map_err(|error| Failure::from_error(Exit::Usage, &error))?;
    let all: Vec<Listed> =
        lists.iter().map(|list| Listed::read(list)).collect::<Result<_, _>>().map_err(|reason| {
            let text = format!("cannot read a revocation list in {}: {reason}", file.display());
            Failure::new(Exit::Usage, text)
        })?;
    if json {
        print_json(&Value::Array(all.iter().map(Listed::to_json).collect()));
        return Ok(());
    }
    for (at, list) in all.iter().enumerate() {
        if at > 0 {
            print("");
        }
        row("revoked by", &list.issuer);
        row("number", &list.number.to_string());
        row("begins", &date(list.begins));
        row("ends", &list.ends.map_or_else(|| "never".to_owned(), date));
        row("revoked", &list.revoked.len().to_string());
        for (serial, at) in &list.revoked {
            row("", &format!("{serial}, on {}", date(*at)));
        }
    }
    Ok(())
}

fn row(title: &str, text: &str) {
    print(&format!("{title:<16}{text}"));
}

fn describe(about: &About, now: i64) {
    let left = match about.days_left(now) {
        _ if about.begins > now => format!("has not begun by this machine's clock, which says {}", date(now)),
        left if left < 0 => "has ended".to_owned(),
        left => format!("{left} days left"),
    };
    let names = about.names().join(", ");
    row("subject", &about.subject);
    if !names.is_empty() {
        row("names", &names);
    }
    row("issuer", &about.issuer);
    row("for", about.purpose());
    if let Some(only) = &about.only {
        row("signs only for", only);
    }
    row("begins", &date(about.begins));
    row("ends", &format!("{}, {left}", date(about.ends)));
    row("serial", &about.serial);
}

/// Loads the authority; warns if other users may read its key.
fn load(folder: &Folder) -> Result<Authority, Failure> {
    let key = folder.authority().key;
    if key.metadata().is_ok_and(|about| is_open_to_others(&about)) {
        let shown = key.display();
        note(&format!(
            "warning: others may read {shown} and pretend to be any server; run `chmod 600 {shown}`"
        ));
    }
    Authority::load(folder)
}

fn files(pair: &Pair) -> String {
    format!("{} and {}", pair.certificate.display(), pair.key.display())
}
