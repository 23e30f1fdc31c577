//! Interpretation of requests: what to do, whether the caller is permitted to, and whether it is possible.

use rantai_client::wire::user::User;
use serde_json::{Value, json};
use uuid::Uuid;

use super::commands::{self, Asked};
use super::names;
use super::operation::Intent;
use super::reply::{Problem, Status};
use super::service::{Opened, Server, time, unkept};
use super::settings::Project;
use super::state::Provisioned;
use super::storage::About;
use super::targets::{Access, Handed};

/// Interpreted request.
pub(super) enum Wanted {
    /// Immediate answer.
    Answer(Value),
    /// Change to make, and the project of the caller.
    Change(Box<Intent>, Option<Project>),
}

impl Server {
    /// Interprets a request, and checks the permissions of the caller.
    pub(super) fn wanted(&self, asked: &Asked, user: Option<&User>) -> Result<Wanted, Problem> {
        let settings = &self.shared.settings;
        let project = self.project(user)?;
        let args = commands::arguments(asked, settings)?;
        let [first, second, third] = &args;
        let image = |name: &str| -> Result<String, Problem> {
            names::file("an image", name)?;
            if project.as_ref().is_none_or(|project| project.allows(name)) {
                return Ok(name.to_owned());
            }
            Err(Problem::new(
                Status::Denied,
                format!("image {name} is not for {}", user.map_or("everybody", User::as_str)),
            ))
        };
        let snapshot = |name: &str| names::file("a snapshot", name).map(|()| name.to_owned());
        let file = |name: &str| names::file("a file", name).map(|()| name.to_owned());
        let opened = self.opened()?;
        let intent = match &*asked.method {
            "list_all_images" => {
                let images = opened.hands.storage.images()?;
                let may = |name: &String| project.as_ref().is_none_or(|project| project.allows(name));
                return Ok(Wanted::Answer(images.into_iter().filter(may).map(Value::from).collect()));
            }
            "list_snaps" => {
                let image = image(first)?;
                let there = opened.hands.storage.image(&image)?;
                there.ok_or_else(|| missing("image", &image))?;
                return Ok(Wanted::Answer(json!(opened.hands.storage.snapshots(&image)?)));
            }
            "image_info" => return image_info(opened, &image(first)?).map(Wanted::Answer),
            "list_nodes" => return self.list_nodes(project.as_ref()).map(Wanted::Answer),
            "provision" => {
                names::node(first)?;
                let (image, snapshot) = (image(second)?, snapshot(third)?);
                let project = project.as_ref().map(|project| project.name.clone());
                let access = self.access(first);
                Intent::Provision { node: first.clone(), image, snapshot, access, project, bytes: 0 }
            }
            "detach_node" => {
                names::node(first)?;
                Intent::DetachNode { node: first.clone() }
            }
            "create_snapshot" => Intent::CreateSnapshot { image: image(first)?, snapshot: snapshot(second)? },
            "remove_snaps" => Intent::RemoveSnaps { image: image(first)?, snapshot: snapshot(second)? },
            "import" => Intent::Import { file: file(first)?, image: image(second)? },
            "export" => {
                Intent::Export { image: image(first)?, snapshot: snapshot(second)?, file: file(third)? }
            }
            "rename" => Intent::Rename { image: image(first)?, to: image(second)? },
            "remove_image" => Intent::RemoveImage { image: image(first)? },
            other => return Err(commands::unsupported(other)),
        };
        Ok(Wanted::Change(Box::new(intent), project))
    }

    /// Checks whether a change is possible and the project is permitted to make it. Called with the locks held, so the
    /// result stays valid.
    pub(super) fn possible(
        &self,
        opened: &Opened,
        intent: &mut Intent,
        project: Option<&Project>,
    ) -> Result<(), Problem> {
        let storage = &opened.hands.storage;
        let image = |name: &str| storage.image(name)?.ok_or_else(|| missing("image", name)).map(drop);
        let snapshot = |of: &str, name: &str| -> Result<(), Problem> {
            image(of)?;
            storage.snapshot(of, name)?.ok_or_else(|| missing("snapshot", name)).map(drop)
        };
        let exists = |what: &str, name: &str| {
            Err(Problem::new(Status::Exists, format!("{what} {name} exists already")))
        };
        let settings = &self.shared.settings;
        match intent {
            Intent::Provision { node, image: of, snapshot: name, bytes, .. } => {
                if opened.state.node(node).map_err(|error| unkept(&error))?.is_some() {
                    return Err(Problem::new(Status::Target, settings.in_use.clone()));
                }
                image(of)?;
                *bytes = storage.snapshot(of, name)?.ok_or_else(|| missing("snapshot", name))?.bytes;
                Ok(())
            }
            Intent::DetachNode { node } => {
                let Some(known) = opened.state.node(node).map_err(|error| unkept(&error))? else {
                    return Err(Problem::new(Status::Target, settings.not_in_use.clone()));
                };
                match project.filter(|project| known.project.as_ref() != Some(&project.name)) {
                    Some(project) => {
                        let text = format!("node {node} is not of project {}", project.name);
                        Err(Problem::new(Status::Denied, text))
                    }
                    None => Ok(()),
                }
            }
            Intent::CreateSnapshot { image: of, snapshot: name } => {
                image(of)?;
                if storage.snapshot(of, name)?.is_some() { exists("snapshot", name) } else { Ok(()) }
            }
            Intent::RemoveSnaps { image: of, snapshot: name }
            | Intent::Export { image: of, snapshot: name, .. } => snapshot(of, name),
            Intent::Import { image: name, .. } => {
                if storage.image(name)?.is_some() {
                    exists("image", name)
                } else {
                    Ok(())
                }
            }
            Intent::Rename { image: name, to } => {
                image(name)?;
                let taken = storage.image(to)?.is_some() || !storage.snapshots(to)?.is_empty();
                if taken { exists("image", to) } else { Ok(()) }
            }
            Intent::RemoveImage { image: name } => {
                image(name)?;
                let snapshots = storage.snapshots(name)?;
                if snapshots.is_empty() {
                    return Ok(());
                }
                let text = format!("image {name} has snapshots: {}", snapshots.join(", "));
                Err(Problem::new(Status::HasSnapshots, text))
            }
        }
    }

    /// Returns the project of a caller; `None` if no projects are configured.
    fn project(&self, user: Option<&User>) -> Result<Option<Project>, Problem> {
        let projects = &self.shared.settings.projects;
        if projects.is_empty() {
            return Ok(None);
        }
        // The client id does not count as a user, because a client can choose any.
        let Some(user) = user else {
            let text = "projects are of users, and this caller is none the broker knows: log in, on a broker with \
                        [[users]] or a password_file in broker.toml";
            return Err(Problem::new(Status::Denied, text));
        };
        let mine = projects.iter().find(|project| project.users.iter().any(|name| name == user.as_str()));
        let none = || Problem::new(Status::Denied, format!("{user} is in no project"));
        mine.cloned().map(Some).ok_or_else(none)
    }

    /// Returns new credentials for a node's initiator.
    fn access(&self, node: &str) -> Access {
        let initiator = format!("{}.{node}", self.shared.settings.initiator);
        Access { initiator, user: node.to_owned(), secret: secret() }
    }

    fn list_nodes(&self, project: Option<&Project>) -> Result<Value, Problem> {
        let opened = self.opened()?;
        let nodes = opened.state.nodes().map_err(|error| unkept(&error))?;
        let handed = opened.hands.target.handed_out()?;
        let mine =
            |node: &&Provisioned| project.is_none_or(|project| node.project.as_ref() == Some(&project.name));
        let mut listed: Vec<Value> = nodes
            .iter()
            .filter(mine)
            .map(|node| {
                let Handed { target, portal, file, .. } = &node.handed;
                let state = if handed.contains(&node.node) { "ready" } else { "not handed out" };
                json!({
                    "node": node.node, "image": node.image, "snapshot": node.snapshot, "target": target,
                    "portal": portal, "file": file, "since": time(node.since_ms), "project": node.project,
                    "state": state,
                })
            })
            .collect();
        // Adds operations in progress, and those that could be neither completed nor undone.
        for operation in opened.state.open_operations().map_err(|error| unkept(&error))? {
            let (node, state) = match &operation.intent {
                Intent::Provision { node, .. } => (node, "being provisioned"),
                Intent::DetachNode { node } => (node, "being detached"),
                _ => continue,
            };
            let state = if operation.undoing { "not taken back yet" } else { state };
            match listed.iter_mut().find(|known| known["node"] == **node) {
                Some(known) => known["state"] = state.into(),
                None if project.is_none() => {
                    listed.push(json!({"node": node, "since": time(operation.began_ms), "state": state}));
                }
                None => {}
            }
        }
        Ok(Value::Array(listed))
    }
}

fn image_info(opened: &Opened, image: &str) -> Result<Value, Problem> {
    let storage = &opened.hands.storage;
    let about = storage.image(image)?.ok_or_else(|| missing("image", image))?;
    let shown = |name: &str, key: &str, about: &About| -> Result<Value, Problem> {
        let recorded = opened.state.recorded(key).map_err(|error| unkept(&error))?;
        Ok(json!({
            "name": name, "bytes": about.bytes, "used": about.used,
            "digest": recorded.as_ref().map(|recorded| &recorded.digest),
            "made": recorded.as_ref().and_then(|recorded| time(recorded.made_ms)),
        }))
    };
    let mut info = shown(image, image, &about)?;
    let mut snapshots = Vec::new();
    for name in storage.snapshots(image)? {
        if let Some(about) = storage.snapshot(image, &name)? {
            snapshots.push(shown(&name, &format!("{image}/{name}"), &about)?);
        }
    }
    info["snapshots"] = Value::Array(snapshots);
    Ok(info)
}

fn missing(what: &str, name: &str) -> Problem {
    Problem::new(Status::NotFound, format!("{what} {name} does not exist"))
}

/// Returns 16 random letters and digits: some initiators accept neither fewer nor more.
fn secret() -> String {
    const LETTERS: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let mut random = [Uuid::new_v4(), Uuid::new_v4()].map(|uuid| uuid.as_u128());
    let mut letter = |index: usize| {
        let from = &mut random[index % 2];
        let letter = LETTERS[(*from % 62) as usize];
        *from /= 62;
        char::from(letter)
    };
    (0..16).map(&mut letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_have_sixteen_letters_and_are_random() {
        let secrets: std::collections::HashSet<String> = (0..100).map(|_| secret()).collect();
        assert_eq!(secrets.len(), 100);
        assert!(secrets.iter().all(|s| s.len() == 16 && s.chars().all(|c| c.is_ascii_alphanumeric())));
    }
}
