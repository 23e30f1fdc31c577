//! Round trips of records, and invalid bytes, which are refused without a panic.

use super::*;
use crate::random::Seeded;
use crate::store::record;

fn random_message(random: &mut Seeded) -> Message {
    let mut text = |most: u64| -> ByteString {
        let count = random.below(most);
        (0..count).map(|_| ['a', '/', 'é', '\u{10348}'][random.below(4) as usize]).collect::<String>().into()
    };
    let topic = text(300);
    let some = |text: &mut dyn FnMut(u64) -> ByteString| (!text(2).is_empty()).then(|| text(40));
    let properties = Properties {
        payload_is_utf8: [None, Some(true), Some(false)][text(3).chars().count()],
        content_type: some(&mut text),
        response_topic: some(&mut text),
        correlation_data: some(&mut text).map(ByteString::into_bytes),
        user: (0..text(4).chars().count()).map(|_| (text(9), text(9))).collect(),
    };
    let payload = text(500).into_bytes();
    Message {
        topic,
        payload,
        qos: QoS::from_bits(random.below(3) as u8).expect("below 3"),
        retain: random.below(2) == 0,
        properties,
        expires: (random.below(2) == 0).then(|| u64::MAX >> random.below(64)),
        asked: None,
    }
}

#[test]
fn messages_are_equal_after_a_round_trip() {
    let mut random = Seeded::new(1);
    for _ in 0..5_000 {
        let message = random_message(&mut random);
        assert_eq!(record::decode_message(&record::encode_message(&message)).as_ref(), Ok(&message));
        let retained = record::encode_retained(&message);
        assert_eq!(record::retained_expires(&retained), Ok(message.expires));
        assert_eq!(record::decode_retained(&message.topic, &retained), Ok(message));
    }
}

#[test]
fn random_bytes_are_refused_or_decoded_without_a_panic() {
    let mut random = Seeded::new(2);
    let samples = [
        record::encode_message(&full_message()),
        record::encode_session(&full_session()),
        record::encode_entry(&EntryRecord { shared: Some("$share/g/a".into()), ..EntryRecord::default() }, 5),
        record::encode_subscription(&SubscriptionRecord { identifier: Some(9), ..Default::default() }),
        record::encode_subscription(&SubscriptionRecord { reading: Some("a".into()), ..Default::default() }),
    ];
    for round in 0..50_000 {
        let mut bytes = samples[round % samples.len()].clone();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = random.next() as u8;
        }
        bytes.truncate(bytes.len() - random.below(bytes.len() as u64) as usize);
        let _ = record::decode_message(&bytes);
        let _ = record::decode_retained("t", &bytes);
        let _ = record::retained_expires(&bytes);
        let _ = record::decode_session(&bytes);
        let _ = record::decode_entry(&bytes);
        let _ = record::entry_message(&bytes);
        let _ = record::move_entry(&bytes, 1, Phase::Sent);
        let _ = record::decode_subscription(&bytes);
    }
}

type Refuses = fn(&[u8]) -> bool;

#[test]
fn truncated_and_extended_records_are_refused() {
    let session = record::encode_session(&SessionRecord { will: None, ..full_session() });
    let entry = record::encode_entry(&EntryRecord { identifiers: vec![1], ..EntryRecord::default() }, 300);
    let subscription =
        record::encode_subscription(&SubscriptionRecord { identifier: Some(300), ..Default::default() });
    let cases: [(&[u8], Refuses); 3] = [
        (&session, |bytes| record::decode_session(bytes).is_err()),
        (&entry, |bytes| record::decode_entry(bytes).is_err()),
        (&subscription, |bytes| record::decode_subscription(bytes).is_err()),
    ];
    for (bytes, refuses) in cases {
        assert!(!refuses(bytes));
        assert!(refuses(&[bytes, &[0]].concat()));
        assert!(refuses(&[&[9], &bytes[1..]].concat()), "another version");
        assert!(refuses(&bytes[..bytes.len() - 1]));
        assert!(refuses(&[]));
    }
}

/// Format 1 did not contain the progress of reading retained messages.
#[test]
fn subscriptions_of_format_1_are_decoded_and_progress_of_reading_is_kept() {
    let old = [1, 0b10_0001, 9];
    let record = record::decode_subscription(&old).expect("a record of format 1");
    assert_eq!((record.identifier, &record.reading), (Some(9), &None));
    assert_eq!(record::encode_subscription(&record), old);
    for (identifier, key) in [(None, ""), (Some(300), ""), (None, "a\0b"), (Some(1), "é")] {
        let record = SubscriptionRecord { identifier, reading: Some(key.into()), ..record.clone() };
        let decoded = record::decode_subscription(&record::encode_subscription(&record));
        assert_eq!(decoded.expect("what was encoded"), record);
    }
}
