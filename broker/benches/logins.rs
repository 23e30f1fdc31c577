//! Duration of logins: `cargo bench -p rantai-broker --bench logins`.
//!
//! A broker with 1,000 users and records of the default cost, with its clients on the same machine. Each line
//! describes a case, with the time until the last client was connected, and the number of hashes computed.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rantai_broker::{Broker, Config, Cost, Counts, Record, User};
use rantai_testing::{Connect, Version};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

const CLIENTS: usize = 1_000;
/// Number of wrong passwords per second.
const GUESSES_PER_S: u64 = 2_000;
/// Maximum number of unanswered guesses.
const MAX_OPEN_GUESSES: usize = 1_000;
/// Number of logins during the guesses, and the time between two of them.
const LOGINS: usize = 40;
const LOGIN_INTERVAL: Duration = Duration::from_millis(200);

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));

fn name(number: usize) -> String {
    format!("user{number}")
}

async fn broker() -> Broker {
    // One record for all: each user's password is checked and cached separately.
    let record = Record::new(b"right", Cost::default()).expect("hashed");
    let users = (0..CLIENTS).map(|number| User::new(name(number), Some(record.clone()))).collect();
    Broker::start(Config { users, anonymous: false, ..Config::on_free_port() }).await.expect("it starts")
}

/// Returns the return code of a login (3.1.1), and its connection.
async fn log_in(from: IpAddr, broker: SocketAddr, connect: Connect) -> std::io::Result<(u8, TcpStream)> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    let mut stream = socket.connect(broker).await?;
    stream.write_all(&connect.encode()).await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    Ok((answer[3], stream))
}

fn connect(user: &str, password: &str, id: &str) -> Connect {
    Connect::new(Version::V3).id(id).user(user).password(password)
}

/// Connects all clients at once, as after a network failure. Each retries until it is connected.
async fn reconnect_all(broker: &Broker, what: &str, user: impl Fn(usize) -> String) {
    let address = broker.addresses()[0];
    let before = broker.counts();
    let began = Instant::now();
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let connect = connect(&user(number), "right", &format!("client{number}"));
        clients.spawn(async move {
            let mut tries = 1;
            loop {
                match log_in(HERE, address, connect.clone()).await {
                    Ok((0, stream)) => return (tries, stream),
                    _ => tries += 1,
                }
                sleep(Duration::from_millis(100)).await;
            }
        });
    }
    let (tries, _streams): (Vec<u32>, Vec<_>) = clients.join_all().await.into_iter().unzip();
    let took = began.elapsed();
    let Counts { hashed_passwords, .. } = broker.counts();
    println!(
        "{what:<58} {:>7.2} s  {:>5} hashes  {:>5} tries",
        took.as_secs_f64(),
        hashed_passwords - before.hashed_passwords,
        tries.iter().sum::<u32>()
    );
}

/// Sends wrong passwords from one address, each for another client id, until `stop` is set.
async fn guess(address: SocketAddr, user: impl Fn(u64) -> String, stop: Arc<AtomicBool>) -> u64 {
    let sent = AtomicU64::new(0);
    let mut open = JoinSet::new();
    let mut tick = interval(Duration::from_millis(5));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while !stop.load(Ordering::Relaxed) {
        tick.tick().await;
        for _ in 0..GUESSES_PER_S / 200 {
            while open.try_join_next().is_some() {}
            if open.len() >= MAX_OPEN_GUESSES {
                break;
            }
            let number = sent.fetch_add(1, Ordering::Relaxed);
            let connect = connect(&user(number), &format!("wrong{number}"), &format!("guess{number}"));
            open.spawn(async move { log_in(HERE, address, connect).await.is_ok() });
        }
    }
    sent.into_inner()
}

/// Measures logins of users who have not logged in before, while wrong passwords are sent.
async fn log_in_during_guesses(what: &str, user: fn(u64) -> String, from: IpAddr) {
    let broker = broker().await;
    let address = broker.addresses()[0];
    let stop = Arc::new(AtomicBool::new(false));
    let guesses = tokio::spawn(guess(address, user, stop.clone()));
    sleep(Duration::from_secs(1)).await;
    let (mut times, mut refused) = (Vec::new(), 0);
    for number in 0..LOGINS {
        let began = Instant::now();
        // No guesses are made for these users.
        let connect = connect(&name(number + 1), "right", &format!("client{number}"));
        match log_in(from, address, connect).await {
            Ok((0, _)) => times.push(began.elapsed().as_secs_f64() * 1_000.0),
            _ => refused += 1,
        }
        sleep(LOGIN_INTERVAL).await;
    }
    stop.store(true, Ordering::Relaxed);
    let seconds = 1.0 + LOGIN_INTERVAL.as_secs_f64() * LOGINS as f64 + times.iter().sum::<f64>() / 1_000.0;
    let sent = guesses.await.expect("it ends") as f64 / seconds;
    times.sort_by(f64::total_cmp);
    let at = |part: usize| times.get((times.len() * part / 100).min(times.len().saturating_sub(1)));
    println!(
        "{what:<58} p50 {:>6.0} ms  worst {:>6.0} ms  {refused} refused  {sent:.0} guesses/s",
        at(50).copied().unwrap_or(f64::NAN),
        at(100).copied().unwrap_or(f64::NAN),
    );
    broker.shutdown().await;
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let new = broker().await;
        reconnect_all(&new, "1,000 clients of one user, after a restart", |_| name(0)).await;
        reconnect_all(&new, "the same again", |_| name(0)).await;
        reconnect_all(&new, "1,000 clients of 1,000 users, after a restart", name).await;
        reconnect_all(&new, "the same again", name).await;
        new.shutdown().await;
        let one = |_| name(0);
        let unknown = |number| format!("nobody{number}");
        log_in_during_guesses("a new login beside guesses at one user, elsewhere", one, ELSEWHERE).await;
        log_in_during_guesses("a new login beside guesses at unknown users, elsewhere", unknown, ELSEWHERE)
            .await;
        log_in_during_guesses("a new login beside guesses at one user, same address", one, HERE).await;
        log_in_during_guesses("a new login beside guesses at unknown users, same address", unknown, HERE)
            .await;
    });
}
