//! Users and TLS: who may log in, what each may do, and a method that knows who calls it.
//!
//! `cargo run -p rantai --example users_and_tls`

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rantai::access::{Table, UserRecord};
use rantai::broker::{Config, Cost, Listener, Record, TlsSettings, User};
use rantai::client::session::ConnectRefusal;
use rantai::client::wire::role::BusRole;
use rantai::{Address, Broker, Client, Code, ConnectError, Context, Fault, Node, Root, TlsFiles, interface};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// A guest book.
#[interface]
pub trait GuestBook {
    /// Signs the book in the name of the user who calls.
    async fn sign(&self, context: Context) -> Result<String, Fault>;
}

struct Book;

impl GuestBook for Book {
    async fn sign(&self, context: Context) -> Result<String, Fault> {
        // The broker says who it is. Nobody can write it into a request.
        let caller = context.caller().ok_or_else(|| Fault::new(Code::DENIED, "log in first"))?;
        Ok(format!("{caller} was here"))
    }
}

/// Writes an authority, and a certificate of it for this machine. `rantai ca` does so for a real site.
fn certificates(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, "An authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate()?;
    std::fs::write(folder.join("ca.pem"), authority.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(["localhost".to_owned()])?.signed_by(&key, &issuer)?;
    std::fs::write(folder.join("broker.pem"), certificate.pem())?;
    std::fs::write(folder.join("broker.key"), key.serialize_pem())?;
    Ok(())
}

/// A broker that users reach by TLS alone. `rantai broker --config broker.toml` has the same settings in a file.
async fn start(folder: &Path) -> Result<Broker, Box<dyn std::error::Error>> {
    // Only a record of each password is kept. The lowest cost is for examples: one of a real site takes long to guess.
    let user = |name: &str, password: &str| {
        Record::new(password.as_bytes(), Cost::LOWEST).map(|record| User::new(name, Some(record)))
    };
    // What each may do. `node` serves and calls, `caller` only calls; roles of one's own say which objects and methods.
    let root = Root::default();
    let mut table = Table::builder();
    for role in BusRole::ready_made() {
        table = table.role(&role.name, role.rules(&root)?);
    }
    let table = table
        .user(UserRecord::new("host")?.roles(["node"]))
        .user(UserRecord::new("ana")?.roles(["caller"]))
        .build()?;
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let tls = TlsSettings::new(folder.join("broker.pem"), folder.join("broker.key"));
    let config = Config {
        listen: Vec::new(),
        listeners: vec![Listener { tls: Some(tls), ..Listener::tcp(any_port) }],
        anonymous: false,
        users: vec![user("host", "a secret")?, user("ana", "another secret")?],
        access: Some(Arc::new(table)),
        ..Config::default()
    };
    Ok(Broker::start(config).await?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    certificates(folder.path())?;
    let broker = start(folder.path()).await?;
    let port = broker.addresses()[0].port();

    // The certificate is for `localhost`, and trusted because of its authority.
    let files = TlsFiles { ca: Some(folder.path().join("ca.pem")), ..TlsFiles::default() };
    let address: Address = format!("mqtts://localhost:{port}").parse()?;
    let address = address.with_tls(files);
    let by = |user: &str, password: &str| address.clone().with_credentials(user, password);

    let node = Node::builder(by("host", "a secret")).connect().await?;
    node.serve("guests", GuestBookObject(Book)).await?;

    let ana = Client::builder(by("ana", "another secret")).connect().await?;
    let signed = GuestBookProxy::new(&ana, "guests").sign().await?;
    assert_eq!(signed, "ana was here");
    println!("{signed}");

    let error = Client::builder(by("ana", "a guess")).connect().await.expect_err("a wrong password");
    assert!(
        matches!(&error, ConnectError::Refused { refusal: ConnectRefusal::WrongPassword, .. }),
        "{error}"
    );
    println!("{error}");

    // Ana may call, and not serve.
    let node = Node::builder(by("ana", "another secret")).connect().await;
    let served = match node {
        Ok(node) => node.serve("impostor", GuestBookObject(Book)).await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let error = served.expect_err("her role does not allow it");
    println!("{error}");

    // Without the authority, the broker is a stranger.
    let untrusted: Address = format!("mqtts://ana:secret@localhost:{port}").parse()?;
    let error = Client::builder(untrusted).connect().await.expect_err("an unknown authority");
    assert!(matches!(&error, ConnectError::Tls { .. } | ConnectError::TlsFiles(_)), "{error:?}");
    println!("{}", rantai::error_chain(&error));
    Ok(())
}
