use std::time::Duration;

use rantai_client::wire::name::ClientId;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn table(in_flight: usize) -> Table {
    let limits = TableLimits { in_flight, bytes: 300, answer: 200 };
    let mut table = Table::new(ObjectName::new("lamp").expect("a name"), limits, 0xAB);
    table.changed(Some(DeviceState::Online));
    table
}

fn asked(caller: &str, until: Instant) -> Asked {
    let caller = CallerKey::Client(ClientId::new(caller).expect("a client id"));
    Asked { method: "on".to_owned(), params: "[5]".to_owned(), until, is_repeatable: false, caller }
}

fn repeatable(until: Instant) -> Asked {
    Asked { is_repeatable: true, ..asked("me", until) }
}

fn json_of(outgoing: &Outgoing) -> Value {
    serde_json::from_slice(&outgoing.payload).expect("JSON")
}

fn code(said: &mut oneshot::Receiver<Said>) -> (Code, bool) {
    let fault = said.try_recv().expect("it is told").expect_err("an error");
    (fault.code, fault.maybe_executed())
}

#[tokio::test(start_paused = true)]
async fn a_request_has_the_time_that_is_left_when_it_is_sent() {
    let (mut table, now) = (table(4), Instant::now());
    let (number, mut said) = table.begin(asked("me", now + 10 * SECOND)).expect("taken");
    let sent = table.next_request(now + 7 * SECOND).expect("it is sent");
    let expected =
        json!({"jsonrpc": "2.0", "id": "00000000000000ab-1", "method": "on", "params": [5], "ttl_ms": 3_000});
    assert_eq!((sent.number, sent.expiry, json_of(&sent)), (number, 3, expected));
    assert_eq!(table.next_request(now), None, "it is sent once");
    table.answered(br#"{"id":"00000000000000ab-1","result":true}"#);
    assert_eq!(said.try_recv(), Ok(Ok(json!(true))));
    assert_eq!(table.report()["in_flight"], 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_too_late_to_be_sent_stays_here_and_is_answered_as_not_executed() {
    let (mut table, now) = (table(4), Instant::now());
    table.changed(Some(DeviceState::Asleep));
    let (number, _said) = table.begin(asked("me", now + SECOND)).expect("taken");
    assert_eq!(table.next_request(now), None, "it is asleep");
    table.changed(Some(DeviceState::Online));
    assert_eq!(table.next_request(now + SECOND), None, "it is too late");
    let fault = table.run_out(number);
    assert_eq!(
        (fault.code, fault.maybe_executed(), &fault.data["device"]),
        (Code::EXPIRED, false, &json!("online"))
    );
    let (number, _said) = table.begin(asked("me", now + SECOND)).expect("taken");
    table.next_request(now).expect("it is sent");
    let fault = table.run_out(number);
    assert_eq!((fault.code, fault.maybe_executed()), (Code::TIMED_OUT, true));
    let report = table.report();
    assert_eq!(
        (&report["unsent"], &report["unanswered"], &report["bytes"]),
        (&json!(1), &json!(1), &json!(0))
    );
}

#[tokio::test(start_paused = true)]
async fn the_device_has_so_many_calls_at_a_time_in_the_order_in_which_they_came() {
    let (mut table, now) = (table(2), Instant::now());
    let numbers: Vec<u64> =
        (0..4).map(|_| table.begin(asked("me", now + SECOND)).expect("taken").0).collect();
    let mut sent = || table.next_request(now).map(|sent| sent.number);
    assert_eq!([sent(), sent(), sent()], [Some(numbers[0]), Some(numbers[1]), None]);
    table.answered(br#"{"id":"00000000000000ab-2","result":1}"#);
    assert_eq!(table.next_request(now).map(|sent| sent.number), Some(numbers[2]));
    table.forget(numbers[0]);
    assert_eq!(
        table.next_request(now).map(|sent| sent.number),
        Some(numbers[3]),
        "a call given up makes room"
    );
}

#[tokio::test(start_paused = true)]
async fn answers_that_belong_to_no_call_are_counted_and_change_nothing() {
    let (mut table, now) = (table(1), Instant::now());
    let (_, mut first) = table.begin(asked("me", now + SECOND)).expect("taken");
    let (_, mut second) = table.begin(asked("me", now + SECOND)).expect("taken");
    table.next_request(now).expect("the first one is sent");
    for stranger in [
        r#"{"id":"00000000000000ac-1","result":1}"#,
        r#"{"id":"00000000000000ab-2","result":1}"#,
        r#"{"id":"00000000000000ab-3","result":1}"#,
        r#"{"id":"00000000000000ab-0","result":1}"#,
        r#"{"id":"00000000000000ab-x","result":1}"#,
        r#"{"id":"","result":1}"#,
    ] {
        table.answered(stranger.as_bytes());
    }
    for unreadable in ["", "[]", "{", "{\"result\":1}", "{\"id\":1,\"result\":1}"] {
        table.answered(unreadable.as_bytes());
    }
    assert!(first.try_recv().is_err() && second.try_recv().is_err());
    for _ in 0..3 {
        table.answered(br#"{"id":"00000000000000ab-1","result":1}"#);
    }
    assert_eq!(first.try_recv(), Ok(Ok(json!(1))));
    assert!(second.try_recv().is_err());
    let expected = json!({"unknown_id": 6, "repeated": 2, "unreadable": 5, "wrong_state": 0});
    assert_eq!(table.report()["ignored"], expected);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_too_large_ends_its_call_alone() {
    let (mut table, now) = (table(2), Instant::now());
    let (_, mut first) = table.begin(asked("me", now + SECOND)).expect("taken");
    let (_, mut second) = table.begin(asked("me", now + SECOND)).expect("taken");
    while table.next_request(now).is_some() {}
    let huge = format!(r#"{{"result":"{}","id":"00000000000000ab-1"}}"#, "x".repeat(200));
    table.answered(huge.as_bytes());
    assert_eq!(code(&mut first), (Code::TOO_LARGE, false));
    assert!(second.try_recv().is_err());
    assert_eq!(table.report()["too_large"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_goes_offline_ends_all_calls_and_says_which_it_may_have_executed() {
    let (mut table, now) = (table(1), Instant::now());
    let (_, mut sent) = table.begin(asked("me", now + SECOND)).expect("taken");
    let (_, mut waiting) = table.begin(asked("me", now + SECOND)).expect("taken");
    table.next_request(now).expect("it is sent");
    table.changed(Some(DeviceState::Offline));
    assert_eq!(code(&mut sent), (Code::LOST_OBJECT, true));
    assert_eq!(code(&mut waiting), (Code::LOST_OBJECT, false));
    let fault = table.begin(asked("me", now + SECOND)).expect_err("it is offline");
    assert_eq!((fault.code, &fault.data["device"]), (Code::LOST_OBJECT, &json!("offline")));
    table.changed(None);
    assert_eq!(table.report()["ignored"]["wrong_state"], 1);
    table.changed(Some(DeviceState::Online));
    assert!(table.begin(asked("me", now + SECOND)).is_ok());
}

#[tokio::test(start_paused = true)]
async fn without_a_state_calls_wait_until_it_is_sure_that_there_is_none() {
    let (mut table, now) = (table(1), Instant::now());
    table.disconnected();
    let (_, mut said) = table.begin(asked("me", now + SECOND)).expect("taken");
    assert_eq!(table.next_request(now), None);
    table.assume_offline();
    assert_eq!(code(&mut said), (Code::LOST_OBJECT, false));
    table.changed(Some(DeviceState::Asleep));
    table.assume_offline();
    assert_eq!(table.report()["state"], "asleep");
}

#[tokio::test(start_paused = true)]
async fn a_device_that_wakes_gets_again_what_it_may_get_twice() {
    let (mut table, now) = (table(4), Instant::now());
    let (once, mut of_once) = table.begin(asked("me", now + SECOND)).expect("taken");
    let (twice, mut of_twice) = table.begin(repeatable(now + SECOND)).expect("taken");
    while table.next_request(now).is_some() {}
    table.changed(Some(DeviceState::Online));
    assert_eq!(table.next_request(now), None, "it says again what is known");
    table.changed(Some(DeviceState::Asleep));
    table.changed(Some(DeviceState::Online));
    let again = table.next_request(now).expect("it is sent again");
    assert_eq!((again.number, &json_of(&again)["id"]), (twice, &json!("00000000000000ab-2")));
    assert_eq!(table.next_request(now), None);
    for number in [once, twice, twice] {
        table.answered(format!(r#"{{"id":"00000000000000ab-{number}","result":1}}"#).as_bytes());
    }
    assert!(of_once.try_recv().is_ok() && of_twice.try_recv().is_ok());
    let report = table.report();
    assert_eq!((&report["sent_again"], &report["ignored"]["repeated"]), (&json!(1), &json!(1)));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_sent_ends_or_waits_by_whether_the_device_may_have_it() {
    let now = Instant::now();
    let settled = |asked: Asked, error: Unsent| {
        let mut table = table(4);
        let (number, mut said) = table.begin(asked).expect("taken");
        table.next_request(now).expect("it is sent");
        table.settled(number, error);
        let is_sent_again = table.next_request(now).is_some();
        (said.try_recv().ok().map(|said| said.expect_err("an error").code), is_sent_again)
    };
    let refused = Unsent::Denied { why: String::new() };
    for (error, expected) in [
        (Unsent::NobodyThere, (Some(Code::LOST_OBJECT), false)),
        (Unsent::Busy, (Some(Code::BUSY), false)),
        (Unsent::TooLarge { size: 2, limit: 1 }, (Some(Code::TOO_LARGE), false)),
        (refused, (Some(Code::BROKEN_OBJECT), false)),
        (Unsent::Offline, (None, true)),
        (Unsent::Lost, (None, false)),
    ] {
        assert_eq!(settled(asked("me", now + SECOND), error.clone()), expected, "{error}");
    }
    assert_eq!(settled(repeatable(now + SECOND), Unsent::Lost), (None, true));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_the_device_may_have_had_before_is_not_said_to_be_new() {
    let (mut table, now) = (table(4), Instant::now());
    let (number, mut said) = table.begin(repeatable(now + SECOND)).expect("taken");
    table.next_request(now).expect("it is sent");
    table.settled(number, Unsent::Offline);
    assert_eq!(table.report()["sent"], 0, "it was not");
    table.answered(br#"{"id":"00000000000000ab-1","result":"guessed"}"#);
    assert_eq!(table.report()["ignored"]["unknown_id"], 1);
    for _ in 0..2 {
        table.changed(Some(DeviceState::Asleep));
        table.changed(Some(DeviceState::Online));
        table.next_request(now).expect("it is sent");
    }
    table.settled(number, Unsent::NobodyThere);
    assert_eq!(code(&mut said), (Code::LOST_OBJECT, true));
}

#[tokio::test(start_paused = true)]
async fn bytes_are_shared_among_callers_and_given_back() {
    let (mut table, now) = (table(4), Instant::now());
    table.changed(Some(DeviceState::Asleep));
    let large =
        |caller: &str| Asked { params: format!("[\"{}\"]", "x".repeat(50)), ..asked(caller, now + SECOND) };
    let mut taken = Vec::new();
    let refused = loop {
        match table.begin(large("greedy")) {
            Ok((number, said)) => taken.push((number, said)),
            Err(fault) => break fault,
        }
    };
    assert_eq!((taken.len(), refused.code), (3, Code::BUSY), "two thirds of 300 bytes");
    assert!(table.begin(large("other")).is_ok(), "another caller finds room");
    table.forget(taken[0].0);
    assert!(table.begin(large("greedy")).is_ok() || table.begin(large("third")).is_ok());
    table.changed(Some(DeviceState::Offline));
    assert_eq!((&table.report()["bytes"], &table.report()["waiting"]), (&json!(0), &json!(0)));
}
