//! Time of one decision with few rules and with many, printed in nanoseconds.

use std::hint::black_box;
use std::time::Instant;

use rantai_access::{Action, Effect, Rule, RuleAccess, RuleFilter, Source, Syntax, Table, UserRecord, Who};

const DECISIONS: u32 = 200_000;

fn table(objects: usize) -> Table {
    let rule = |access, filter: String| {
        let filter = RuleFilter::parse(&filter, Syntax::Extended).expect("a filter");
        let source = Source::Role { role: "role".into(), entry: "bench".into() };
        Rule::new(Effect::Allow, access, filter, source).expect("a rule")
    };
    let calls = (0..objects).map(|object| rule(RuleAccess::Write, format!("rantai/call/object{object}/#")));
    let replies =
        ["rantai/reply/+/%c", "rantai/event/+/+/%c"].map(|filter| rule(RuleAccess::Read, filter.to_owned()));
    let user = UserRecord::new("ada").expect("a name").roles(["role"]);
    Table::builder().user(user).role("role", calls.chain(replies)).build().expect("a table")
}

fn main() {
    println!("{:>8} {:>10} {:>10} {:>10} {:>10}", "rules", "publish", "refused", "reply", "+/+/+");
    for objects in [10, 100, 1_000, 10_000] {
        let table = table(objects);
        let ada = Who { user: Some("ada"), client_id: "ada--1" };
        let topic = format!("rantai/call/object{}/add", objects / 2);
        let cases = [
            Action::Publish(&topic),
            Action::Publish("rantai/call/other/add"),
            Action::Deliver("rantai/reply/object1/ada--1"),
            Action::Subscribe("+/+/+/nobody"),
        ];
        let times = cases.map(|action| {
            let run = || {
                let begin = Instant::now();
                for _ in 0..DECISIONS {
                    black_box(black_box(&table).decide(&ada, black_box(action)));
                }
                begin.elapsed().as_nanos() / u128::from(DECISIONS)
            };
            // The first run only warms the caches and raises the clock rate of the processor.
            run();
            run()
        });
        println!("{objects:>8} {:>10} {:>10} {:>10} {:>10}", times[0], times[1], times[2], times[3]);
    }
}
