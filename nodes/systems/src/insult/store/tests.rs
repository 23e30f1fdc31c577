use super::*;
use rantai_client::environment::ManualClock;

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[tokio::test]
async fn insults_and_texts_are_stored_once_and_survive_a_restart() {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("insults.redb");
    let mut epochs = Vec::new();
    for round in 0..2 {
        let lists = Lists::new(Some(file.clone()), Room::default());
        let first = round == 0;
        let new = lists.add_insults(texts(&["tonto", "bobo", "tonto"])).await.expect("kept");
        assert_eq!(new, [first, first, false]);
        let page = lists.insults(0).await.expect("a page");
        assert_eq!((page.total, page.insults), (2, texts(&["tonto", "bobo"])));
        assert_eq!(lists.insults(1).await.expect("a page").insults, texts(&["bobo"]));
        let added = lists.add_texts(page.epoch.clone(), 2, texts(&["a", "b", "a"])).await;
        assert_eq!(added, Ok(Some(vec![first, first, false])));
        let kept = lists.texts(0).await.expect("texts");
        assert_eq!(kept.iter().map(|k| (k.id, &*k.text)).collect::<Vec<_>>(), [(1, "a"), (2, "b")]);
        assert!(DateTime::parse_from_rfc3339(&kept[0].timestamp).is_ok());
        assert_eq!(lists.texts(1).await.expect("texts").len(), 1);
        assert!(Lists::new(Some(file.clone()), Room::default()).open().is_err(), "one process has it");
        epochs.push(page.epoch);
    }
    assert_eq!(epochs[0], epochs[1]);
}

#[tokio::test]
async fn texts_are_kept_only_where_all_insults_were_known() {
    let lists = Lists::new(None, Room::default());
    let epoch = lists.insults(0).await.expect("a page").epoch;
    assert_eq!(lists.any_insult().await, Ok(None));
    lists.add_insults(texts(&["tonto"])).await.expect("kept");
    assert_eq!(lists.any_insult().await, Ok(Some("tonto".to_owned())));
    assert_eq!(lists.add_texts(epoch.clone(), 0, texts(&["x"])).await, Ok(None));
    assert_eq!(lists.add_texts("another".to_owned(), 1, texts(&["x"])).await, Ok(None));
    assert_eq!(lists.add_texts(epoch, 1, texts(&["x"])).await, Ok(Some(vec![true])));
    assert_eq!(lists.texts(0).await.expect("texts").len(), 1);
}

#[tokio::test]
async fn insults_beyond_the_limits_are_refused_as_a_whole() {
    let lists = Lists::new(None, Room { insults: 2, texts: 2, bytes: 10 });
    let kind = |fault: Fault| fault.data["kind"].clone();
    assert_eq!(lists.add_insults(texts(&["a", "b"])).await, Ok(vec![true, true]));
    let fault = lists.add_insults(texts(&["a", "c"])).await.expect_err("full");
    assert_eq!(kind(fault), "full");
    assert_eq!(lists.add_insults(texts(&["b", "a"])).await, Ok(vec![false, false]), "what is known fits");
    let Page { epoch, total, .. } = lists.insults(0).await.expect("a page");
    assert_eq!(total, 2);
    let fault = lists.add_texts(epoch.clone(), 2, texts(&["123456789"])).await.expect_err("11 bytes");
    assert_eq!(kind(fault), "full");
    assert_eq!(lists.add_texts(epoch.clone(), 2, texts(&["12345678"])).await, Ok(Some(vec![true])));
    assert!(lists.add_texts(epoch, 2, texts(&["1"])).await.is_err());
    assert_eq!(lists.texts(0).await.expect("texts").len(), 1);
}

#[tokio::test]
async fn long_lists_are_returned_in_pages() {
    let lists = Lists::new(None, Room::default());
    let epoch = lists.insults(0).await.expect("a page").epoch;
    // The worst case for JSON: each character takes six bytes.
    for number in 0..8 {
        let long = (0..30).map(|part| format!("{number} {part} ") + &"\u{1}".repeat(4_000)).collect();
        lists.add_texts(epoch.clone(), 0, long).await.expect("kept");
    }
    let (mut ids, mut pages) = (Vec::new(), 0);
    loop {
        let page = lists.texts(ids.last().copied().unwrap_or(0)).await.expect("a page");
        if page.is_empty() {
            break;
        }
        assert!(serde_json::to_string(&page).expect("JSON").len() <= MAX_PAGE_BYTES + 2);
        ids.extend(page.iter().map(|kept| kept.id));
        pages += 1;
    }
    assert!(pages > 1 && ids == (1..=240).collect::<Vec<u64>>());
}

#[tokio::test]
async fn store_on_a_full_disk_is_busy_and_recovers() {
    let folder = tempfile::tempdir().expect("a directory");
    let (opener, switch) = commit::faulty::file(&folder.path().join("insults.redb"));
    let lists = Lists::new(None, Room::default());
    let committer = Committer::open(opener, prepare).expect("opened");
    lists.shared.opened.set(Opened::new(committer).expect("opened")).expect("the first");
    assert_eq!(lists.add_insults(texts(&["tonto"])).await, Ok(vec![true]));
    switch.full.store(true, std::sync::atomic::Ordering::Relaxed);
    let fault = lists.add_insults(texts(&["bobo"])).await.expect_err("full");
    assert!(fault.code == Code::BUSY && fault.is_retryable(), "{fault}");
    switch.full.store(false, std::sync::atomic::Ordering::Relaxed);
    while let Err(fault) = lists.add_insults(texts(&["tonto", "lelo"])).await {
        assert_eq!(fault.code, Code::BUSY, "{fault}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(lists.insults(0).await.expect("a page").insults.starts_with(&texts(&["tonto"])));
}

#[tokio::test]
async fn store_uses_time_and_randomness_of_the_environment() {
    let lists = || {
        let environment = Environment::simulated(ManualClock::new(1_500), 5);
        Lists::with_environment(None, Room::default(), environment)
    };
    let mut chosen = Vec::new();
    for lists in [lists(), lists()] {
        lists.add_insults(texts(&["tonto", "bobo", "lelo"])).await.expect("kept");
        let epoch = lists.insults(0).await.expect("a page").epoch;
        lists.add_texts(epoch, 3, texts(&["a"])).await.expect("kept");
        assert_eq!(lists.texts(0).await.expect("texts")[0].timestamp, "1970-01-01T00:00:01.500Z");
        let mut any = Vec::new();
        for _ in 0..20 {
            any.push(lists.any_insult().await.expect("an answer").expect("there are some"));
        }
        chosen.push(any);
    }
    assert_eq!(chosen[0], chosen[1]);
    assert!(["tonto", "bobo", "lelo"].iter().all(|insult| chosen[0].contains(&(*insult).to_owned())));
}
