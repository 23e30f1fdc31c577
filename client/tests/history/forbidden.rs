//! Forbidden actions, tried with the valid credentials of another user.

use rantai_testing::{Property, Publish, Will};

use crate::history::stranger;
use crate::link::{Link, connect};
use crate::site::{Site, USERS, client_id, may_call, name, object, reply_topic};

/// Reason code: not authorized.
const REFUSED: u8 = 0x87;
/// Reason code: Client Identifier not valid.
const NOT_ITS_ID: u8 = 0x85;

/// Tries a forbidden action.
///
/// # Panics
///
/// The broker allowed it.
pub(crate) fn attempt(site: &Site, link: &mut Link, user: usize, random: &mut fastrand::Rng) {
    let other = stranger(random, user);
    let (his_object, his_name) = (object(other), name(other));
    match random.u8(0..9) {
        0 => {
            let first = random.usize(0..USERS);
            let not_callable = (first..first + USERS)
                .map(|server| server % USERS)
                .find(|server| *server != user && !may_call(user, *server))
                .expect("most objects are not for it");
            let request = request(not_callable, user, &reply_topic(not_callable, user), b"x");
            assert_eq!(link.publish(request), REFUSED, "{user} calls {not_callable}");
        }
        1 => {
            // Publishes a reply for another user.
            let server = (user + 1) % USERS;
            let request = request(server, user, &reply_topic(server, other), b"x");
            assert_eq!(link.publish(request), REFUSED, "{user} has {server} answer {other}");
        }
        2 => {
            let forged = Publish::new(&reply_topic(user, other), "forged")
                .property(Property::CorrelationData(random.u64(..).to_be_bytes().to_vec()));
            assert_eq!(link.publish(forged), REFUSED, "{user} answers {other} unasked");
        }
        3 => {
            let filters = [
                format!("rantai/reply/+/{}", client_id(other)),
                format!("rantai/call/{his_object}/#"),
                format!("home/{his_name}/#"),
                format!("$share/{his_object}/rantai/call/{his_object}/#"),
                format!("$share/spies/home/{his_name}/#"),
                format!("rantai/event/+/+/{}", client_id(other)),
            ];
            let filter = &filters[random.usize(0..filters.len())];
            assert_eq!(link.subscribe(filter), REFUSED, "{user} subscribes to {filter}");
        }
        4 => {
            let topics = [
                format!("home/{his_name}/door"),
                format!("rantai/name/{his_object}/{}", client_id(user)),
                format!("rantai/node/{}", client_id(other)),
                format!("rantai/event/{his_object}/moved"),
                format!("rantai/call/{his_object}/rpc.yield"),
                "$SYS/broker/version".to_owned(),
            ];
            let topic = &topics[random.usize(0..topics.len())];
            let allowed = may_call(user, other) && topic.ends_with("rpc.yield");
            let message = Publish::new(topic, "forged");
            if !allowed {
                assert_eq!(link.publish(message), REFUSED, "{user} publishes to {topic}");
            }
        }
        5 => {
            let (_, connack) = Link::open(site, &connect(user, &client_id(other)));
            assert_eq!(connack.code, NOT_ITS_ID, "{user} connects as {}", client_id(other));
        }
        6 => {
            let topic = format!("home/{his_name}/door");
            let will = connect(user, &format!("{}--will", name(user))).will(Will::new(&topic, "forged"));
            let (_, connack) = Link::open(site, &will);
            assert_eq!(connack.code, REFUSED, "{user} leaves a will on {topic}");
        }
        7 => {
            // Its own topics with another user's name: `caller` is stamped only below the root of the bus.
            let message = Publish::new(&format!("home/{}/door", name(user)), &name(user))
                .property(Property::user("caller", &his_name));
            assert_eq!(link.publish(message), 0, "{user} writes to its own topics");
        }
        _ => {
            let wrong = connect(other, &format!("{his_name}--guess")).password("guessed");
            // Nobody is locked out by this: each is one guess for one user, from one address.
            if random.u8(0..16) == 0 {
                let (_, connack) = Link::open(site, &wrong);
                assert!(matches!(connack.code, 0x86 | 0x89), "{user} logs in as {other}: {connack:?}");
            }
        }
    }
}

/// Creates a request that names its sender.
pub(crate) fn request(server: usize, user: usize, reply: &str, correlation: &[u8]) -> Publish {
    Publish::new(&format!("rantai/call/{}/run", object(server)), &user.to_string())
        .property(Property::ResponseTopic(reply.to_owned()))
        .property(Property::CorrelationData(correlation.to_vec()))
}
