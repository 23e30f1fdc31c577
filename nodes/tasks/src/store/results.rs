//! Sizes that tasks gain after their submission: results, errors, and results of their dependencies.

use std::sync::Arc;

use rantai_client::wire::fault::Fault;

use super::holdings::{Amount, Holdings, Kept, KeptLimits, Reserved, Room};
use super::write;
use crate::task::{State, Task};

/// Maximum size of a kept error, in bytes of JSON.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// Counts the size that a task has gained against its owner. If `limits` leave no room for its result, the result is
/// dropped, and the task has failed.
pub(super) fn count(
    task: &mut Task,
    limits: Option<&KeptLimits>,
    holdings: &Arc<Holdings>,
) -> Option<Reserved> {
    cut_error(task);
    // Tasks that count against no caller were stored by earlier versions.
    let owner = task.owner.clone().filter(|owner| owner.bytes > 0)?;
    let grown = |task: &Task| (write(task).len() as u64).saturating_sub(owner.bytes);
    if let Some(limits) = limits.filter(|_| task.result.is_some()) {
        let room = holdings.room_for_bytes(Kept::Tasks, &owner.caller, &limits.bytes, grown(task));
        if let Some(text) = refusal(room) {
            task.result = None;
            task.error = serde_json::to_value(Fault::failed("full", text)).ok();
            task.state = State::Failed;
        }
    }
    let bytes = grown(task);
    if bytes == 0 {
        return None;
    }
    task.owner = Some(crate::owner::Owner { bytes: owner.bytes + bytes, ..owner.clone() });
    Some(holdings.reserve(Kept::Tasks, &owner.caller, Amount { count: 0, bytes }))
}

fn refusal(room: Room) -> Option<&'static str> {
    match room {
        Room::There => None,
        Room::OverShare => Some(
            "it was carried out; its owner has its share of the bytes that the ledger keeps, so its result is not kept",
        ),
        Room::Full => {
            Some("it was carried out; the ledger keeps as many bytes as it may, so its result is not kept")
        }
    }
}

fn cut_error(task: &mut Task) {
    let Some(error) = &mut task.error else { return };
    if error.to_string().len() <= MAX_ERROR_BYTES {
        return;
    }
    let code = error["code"].take();
    let message = error["message"].as_str().unwrap_or_default();
    let message: String = message.chars().take(1_000).collect();
    *error = serde_json::json!({"code": code, "message": format!("{message} (cut: the error is too large to be kept)")});
}
