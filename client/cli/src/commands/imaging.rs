//! `rantai imaging`: disks for machines, with the commands of the older client.

use rantai_client::CallError;
use rantai_imaging::reply::{Disk, Reply};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::connection::{Connection, log, print, print_json, run, shown};
use crate::exit::{EXIT_CODES, Exit, Failure};

const EXAMPLES: &str = "\
Methods:
  provision NODE [IMAGE [SNAPSHOT]]     give a node a disk, and hand it out
  detach_node NODE                      take it away
  create_snapshot IMAGE SNAPSHOT        keep an image as it is now
  list_all_images                       names of images
  list_snaps IMAGE                      names of an image's snapshots
  remove_snaps IMAGE SNAPSHOT           take a snapshot away
  list_nodes                            nodes with their disks
  image_info IMAGE                      size, digest and snapshots
  import FILE [IMAGE]                   take a file of the folder `incoming` as an image
  export IMAGE SNAPSHOT [FILE]          lay a copy into the folder `outgoing`
  rename IMAGE NEW                      give an image another name
  remove_image IMAGE                    take an image away that has no snapshots

Examples:
  rantai up --config imaging --data-dir data   serves what these call
  rantai imaging provision node-1
  rantai imaging create_snapshot hadoopMaster.img HadoopMasterGoldenImage
  rantai imaging list_nodes --json
";

/// Give machines their disks.
#[derive(clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n{EXIT_CODES}"))]
pub(crate) struct Imaging {
    /// The method, which the server checks
    #[arg(value_name = "METHOD")]
    method: String,
    /// Its arguments
    #[arg(value_name = "ARGS")]
    args: Vec<String>,
    /// The object
    #[arg(long, value_name = "NAME", default_value = "example.mainserver")]
    object: String,
    /// What a repeat is recognised by: the same request with the same UUID gets the first answer
    #[arg(long, value_name = "UUID")]
    request: Option<Uuid>,
    #[command(flatten)]
    connection: Connection,
}

impl Imaging {
    pub(crate) fn run(self) -> Result<(), Failure> {
        log(tracing::Level::ERROR);
        run(self.ask())
    }

    async fn ask(self) -> Result<(), Failure> {
        let Self { method, args, object, request, connection } = self;
        let client = connection.client().await?;
        let identity = request.unwrap_or_else(Uuid::now_v7);
        let object = client.object(&object).deadline(connection.timeout());
        let asked = object.request("command").identity(identity).params((&method, &args)).send().await;
        let reply: Result<Reply, CallError> = asked.and_then(rantai_client::Response::read);
        client.close().await;
        let reply = reply.map_err(|error| {
            let again = format!("; ask again with --request {identity}");
            let unknown = matches!(error, CallError::Lost) || error.is_retryable();
            connection.failed(&error).and_then_say(if unknown { &again } else { "" })
        })?;
        if connection.json {
            print_json(&json!(reply));
        }
        let Reply { status_code, retval, msg, disk } = reply;
        if status_code != 200 {
            let exit = exit(status_code);
            let text = format!("{method}: {} ({status_code})", msg.unwrap_or_default());
            return Err(Failure::new(exit, text).shown());
        }
        if !connection.json {
            tell(&retval.unwrap_or_default());
            if let Some(disk) = disk {
                tell_disk(&disk);
            }
        }
        Ok(())
    }
}

/// Returns the exit code for a status.
fn exit(status: u16) -> Exit {
    match status {
        403 => Exit::Denied,
        404 => Exit::NotFound,
        410 => Exit::Usage,
        411 => Exit::Parameters,
        _ => Exit::Failed,
    }
}

fn tell(retval: &Value) {
    match retval {
        Value::Array(items) => {
            for item in items {
                print(&line(item));
            }
        }
        other => print(&line(other)),
    }
}

/// Formats the members of an object in one line, except those that are null.
fn line(value: &Value) -> String {
    let Value::Object(members) = value else { return shown(value) };
    let members = members.iter().filter(|(_, value)| !value.is_null());
    members.map(|(name, value)| format!("{name}={}", shown(value))).collect::<Vec<_>>().join("  ")
}

fn tell_disk(disk: &Disk) {
    let Disk { handed, initiator, user, secret } = disk;
    if let Some(file) = &handed.file {
        return print(&format!("disk: {file} (nothing is exported)"));
    }
    for (name, value) in [("target", &handed.target), ("portal", &handed.portal)] {
        print(&format!("{name}: {}", value.as_deref().unwrap_or("?")));
    }
    print(&format!("lun: {}", handed.lun.unwrap_or_default()));
    for (name, value) in [("initiator", initiator), ("user", user), ("secret", secret)] {
        print(&format!("{name}: {value}"));
    }
}
