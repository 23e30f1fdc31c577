//! Imaging in the demo: a disk as a file, and over iSCSI if a target and an initiator are installed.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use rantai_client::{CallError, Client};
use rantai_imaging::ImagingProxy;
use rantai_imaging::reply::{Disk, Reply};
use rantai_nodes::Node;
use rantai_nodes::kind::Output;
use rantai_site::config::{Config, Configured};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use super::{DISK, DemoOutput, IMAGING, PATIENCE, title};
use crate::connection::print;

const IMAGE: &str = "hadoopMaster.img";
const SNAPSHOT: &str = "HadoopMasterGoldenImage";
/// Name of the second server.
const OVER_ISCSI: &str = "example.mainserver.iscsi";

/// Returns the status, and the result or the message.
fn result_of(reply: Result<Reply, CallError>) -> Result<Value, CallError> {
    reply.map(|reply| json!([reply.status_code, reply.retval.or_else(|| reply.msg.map(Value::from))]))
}

pub(super) async fn show(show: &mut DemoOutput, client: &Client) {
    title("Imaging: a node gets a disk of its own, and gives it back");
    let server = ImagingProxy::new(client, "example.mainserver");
    let taken = server.create_snapshot(IMAGE.to_owned(), SNAPSHOT.to_owned()).await;
    let taken =
        taken.map(|reply| json!([reply.status_code, reply.retval.map(|taken| taken["bytes"].clone())]));
    show.result(&format!("create_snapshot {IMAGE} {SNAPSHOT}"), &taken, &json!([200, DISK]));
    let given = server.provision("node-1".to_owned(), None, None).await;
    let file = given.as_ref().ok().and_then(|reply| reply.disk.as_ref()?.handed.file.clone());
    show.result("provision node-1", &result_of(given), &json!([200, true]));
    let block = file.and_then(|file| std::fs::read(file).ok()).map(|disk| json!([disk.len(), disk[..4]]));
    show.result("its disk, and the first bytes", &Ok(json!(block)), &json!([DISK, [7, 7, 7, 7]]));
    let again = server.provision("node-1".to_owned(), None, None).await;
    show.result("provision node-1 again", &result_of(again), &json!([440, "Node is already in use"]));
    let detached = result_of(server.detach_node("node-1".to_owned()).await);
    show.result("detach_node node-1", &detached, &json!([200, true]));
    let gone = server.detach_node("node-1".to_owned()).await;
    let nothing = json!([440, "Node already part unmapped and no image exists"]);
    show.result("detach_node node-1 again", &result_of(gone), &nothing);
}

/// Shows the same with third-party target and initiator, if they are installed.
pub(super) async fn show_over_iscsi(show: &mut DemoOutput, client: &Client, node: &Node, folder: &Path) {
    title("Imaging over iSCSI: where Debian's tgt and QEMU's initiator are installed");
    if let Err(missing) = initiator().await {
        return print(&format!("  --    {missing}"));
    }
    let object = match server(folder) {
        Ok(object) => object,
        Err(missing) => return print(&format!("  --    {missing}")),
    };
    let claimed = node.serve_with(OVER_ISCSI, object.object, object.options).await;
    let server = ImagingProxy::from(client.object(OVER_ISCSI).deadline(PATIENCE));
    show.result("served", &Ok(json!(claimed.is_ok())), &json!(true));
    let taken = server.create_snapshot(IMAGE.to_owned(), SNAPSHOT.to_owned()).await;
    show.result("create_snapshot", &taken.map(|reply| json!(reply.status_code)), &json!(200));
    let given = server.provision("node-2".to_owned(), None, None).await;
    let disk = given.as_ref().ok().and_then(|reply| reply.disk.clone());
    show.result("provision node-2", &result_of(given), &json!([200, true]));
    if let Some(disk) = disk {
        let read = read(&disk, 7).await;
        show.result("its initiator logs in with CHAP, and reads a block of sevens", &Ok(read), &json!(true));
        let other = Disk { secret: "0123456789abcdef".to_owned(), ..disk };
        show.result("with another secret", &Ok(self::read(&other, 7).await), &json!(false));
    }
    let detached = result_of(server.detach_node("node-2".to_owned()).await);
    show.result("detach_node node-2", &detached, &json!([200, true]));
}

/// Builds a second server, which provides disks over iSCSI; the error says what is missing.
fn server(folder: &Path) -> Result<Configured, String> {
    let place = folder.join("iscsi/images");
    std::fs::create_dir_all(&place).map_err(|error| error.to_string())?;
    std::fs::write(place.join(IMAGE), vec![7; DISK]).map_err(|error| error.to_string())?;
    // The target's port must be below the range of ephemeral ports.
    let mut ports = (20_000..32_000).map(|port| 20_000 + (port * 7 + std::process::id()) % 12_000);
    let free = |port: &u32| TcpListener::bind(("127.0.0.1", *port as u16)).is_ok();
    let port = ports.find(free).ok_or("no port is free")?;
    let text = IMAGING
        .replace("folder = \"imaging\"", "folder = \"iscsi\"")
        .replace("name = \"example.mainserver\"", &format!("name = \"{OVER_ISCSI}\""))
        .replace("target = \"files\"", &format!("target = {{ tgt = {{ portal = \"127.0.0.1:{port}\" }} }}"));
    let file = folder.join("iscsi.toml").display().to_string();
    let config = Config::from_toml(&text, &file).map_err(|error| error.to_string())?;
    let output: Output = Arc::new(|_: &str| {});
    let mut objects = config.objects(&file, &output).map_err(|error| error.to_string())?;
    let mut object = objects.pop().ok_or("no object")?;
    let open = object.open.take().ok_or("nothing to open")?;
    open().map(|()| object)
}

/// Checks that QEMU's programs are installed, with their iSCSI driver.
async fn initiator() -> Result<(), String> {
    let mut command = Command::new("qemu-io");
    let asked = command.args(["--image-opts", "driver=iscsi", "-c", "quit"]).kill_on_drop(true).output();
    match timeout(PATIENCE, asked).await {
        Ok(Ok(answer)) if String::from_utf8_lossy(&answer.stderr).contains("Unknown driver") => {
            Err("qemu-io has no driver for iSCSI: the package qemu-block-extra has it".to_owned())
        }
        Ok(Ok(_)) => Ok(()),
        _ => Err("no qemu-io: the packages qemu-utils and qemu-block-extra have it".to_owned()),
    }
}

/// Checks that the first block can be read over iSCSI, and consists of this byte.
async fn read(disk: &Disk, byte: u8) -> Value {
    let Disk { handed, initiator, user, secret } = disk;
    let [target, portal] = [&handed.target, &handed.portal].map(|part| part.as_deref().unwrap_or_default());
    let options = format!(
        "driver=iscsi,transport=tcp,portal={portal},target={target},lun={},user={user},password-secret=chap,\
         initiator-name={initiator}",
        handed.lun.unwrap_or_default()
    );
    let mut command = Command::new("qemu-io");
    command.args(["-r", "--object", &format!("secret,id=chap,data={secret}"), "--image-opts", &options]);
    command.args(["-c", &format!("read -P {byte} 0 512")]).kill_on_drop(true);
    let Ok(Ok(answer)) = timeout(PATIENCE, command.output()).await else { return json!(false) };
    let said = String::from_utf8_lossy(&answer.stdout).into_owned();
    json!(said.contains("read 512/512") && !said.contains("Pattern verification failed"))
}
