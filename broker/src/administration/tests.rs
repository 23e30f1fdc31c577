use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::hub::tests::hub;

/// Polls a future until it is ready. Returns its result and the number of polls.
fn finish<T>(future: impl Future<Output = T>) -> (T, usize) {
    let (mut future, mut context) = (pin!(future), Context::from_waker(Waker::noop()));
    for polls in 1.. {
        if let Poll::Ready(result) = future.as_mut().poll(&mut context) {
            return (result, polls);
        }
    }
    unreachable!("it ends");
}

#[tokio::test]
async fn a_long_list_has_pages_and_each_is_read_in_parts() {
    let hub = hub(2_500);
    let (mut ids, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = Page { after, most: 1_000_000 };
        let (listed, polls) = finish(sessions::list(hub.clone(), page, false));
        let listed = listed.expect("a page");
        assert!(listed.items.len() <= MAX_PAGE_ITEMS && polls >= listed.items.len() / 256, "{polls} polls");
        pages += 1;
        ids.extend(listed.items.into_iter().map(|session| session.client_id));
        after = listed.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((ids.len(), pages), (2_500, 3));
    assert_eq!(ids, (1..=2_500).map(|key| key.to_string()).collect::<Vec<_>>());
    // No client is connected, but all sessions are examined, in parts.
    let (connected, polls) = finish(sessions::list(hub.clone(), Page { after: None, most: 10 }, true));
    assert_eq!(connected, Ok(Listed { items: vec![], next: None }));
    assert!(polls >= 9, "{polls} polls");
    let page = Page { after: Some("x".to_owned()), most: 10 };
    assert_eq!(finish(sessions::list(hub, page, true)).0, Err(AdministrationError::NoSuchPage));
}

#[test]
fn an_answer_is_bounded_in_bytes() {
    let mut gathered = PageBuilder::new(MAX_PAGE_ITEMS);
    let mut count = 0;
    while !gathered.is_full() {
        gathered.push((), 64 << 10);
        count += 1;
    }
    assert_eq!(count, 4);
    assert!(!PageBuilder::<()>::new(0).is_full(), "at least one item");
}

#[tokio::test]
async fn requests_are_bounded_and_fail_after_the_broker_has_stopped() {
    let hub = hub(3);
    let administration = Administration::start(&hub);
    // The answering task has not run yet.
    let mut waiting: Vec<_> = (0..MAX_WAITING_REQUESTS).map(|_| Box::pin(administration.limits())).collect();
    let mut context = Context::from_waker(Waker::noop());
    for question in &mut waiting {
        assert!(question.as_mut().poll(&mut context).is_pending());
    }
    assert_eq!(administration.limits().await, Err(AdministrationError::Busy));
    // A cancelled request is not answered, and frees its place in the queue.
    let last = waiting.pop().expect("it is there");
    drop(waiting);
    assert!(last.await.is_ok_and(|limits| limits.len() >= 50));
    assert!(administration.limits().await.is_ok());
    hub.shared.stopping.send_replace(true);
    tokio::task::yield_now().await;
    assert_eq!(administration.limits().await, Err(AdministrationError::Stopped));
}

#[tokio::test]
async fn invalid_filters_are_refused_without_a_request() {
    let administration = Administration::start(&hub(0));
    for filter in ["", "a/#/b", "a+", "$share/g/a", "a\0"] {
        let deleted = administration.delete_retained(filter.to_owned(), 1).await;
        assert_eq!(deleted, Err(AdministrationError::NoFilter), "{filter:?}");
    }
}

/// Every limit of the configuration is listed, with the value that it has.
#[tokio::test]
async fn every_limit_is_listed() {
    let example = include_str!("../../../config/broker.toml");
    let (_, limits) = example.split_once("\n[limits]").expect("it has them");
    let keys = limits.lines().filter_map(|line| Some(line.strip_prefix('#')?.split_once(" = ")?.0));
    let listed = Administration::start(&hub(0)).limits().await.expect("an answer");
    for key in keys.take_while(|key| *key != "filter") {
        if crate::Config::from_toml(&format!("[limits]\n{key} = 300"), std::path::Path::new("x")).is_ok() {
            assert!(listed.iter().any(|limit| limit.key == key), "{key} is not listed");
        }
    }
    let of = |key: &str| listed.iter().find(|limit| limit.key == key).cloned().expect("listed");
    assert_eq!((of("connections").value.as_str(), of("connections").used), ("100000", Some(0)));
    assert!(of("connections").is_live && !of("memory_bytes").is_live);
}
