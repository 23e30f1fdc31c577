//! Calls of methods marked `once`.

#[cfg(feature = "journal")]
pub(super) use journaled::{Keeper, Once};
#[cfg(not(feature = "journal"))]
pub(super) use refused::{Keeper, Once};

#[cfg(feature = "journal")]
mod journaled {
    use std::sync::{Arc, OnceLock};

    use rantai_client::object::{Answer, Call, Object};
    use rantai_client::shares::CallerKey;
    use rantai_client::wire::fault::{Code, Fault};
    use rantai_client::wire::request;

    use crate::dispatch::running::{Origin, SharedOrigin, begin, poll};
    use crate::journal::{Begun, Identity, Journal, Print, print};

    /// Journal of a node, once it is set.
    pub(in crate::dispatch) type Keeper = OnceLock<Arc<Journal>>;

    /// Call of a method marked `once`.
    pub(in crate::dispatch) struct Once {
        /// Journal that records the call; without one it is refused.
        journal: Option<Arc<Journal>>,
        identity: Identity,
        print: Print,
        caller: CallerKey,
    }

    impl Once {
        /// Creates the call of an object with this identity.
        pub(in crate::dispatch) fn new(
            keeper: &Keeper,
            object: &str,
            identity: &request::Identity<'_>,
            method: &str,
            payload: &[u8],
            caller: &CallerKey,
        ) -> Self {
            Self {
                journal: keeper.get().cloned(),
                identity: Identity::new(object, identity),
                print: print(method, payload),
                caller: caller.clone(),
            }
        }

        /// Executes the call: records its beginning before, and its result after.
        pub(in crate::dispatch) async fn call(
            self,
            object: Arc<dyn Object>,
            call: Call,
            origin: &SharedOrigin,
        ) -> Result<Answer, Fault> {
            let Self { journal, identity, print, caller } = self;
            let Some(journal) = journal else {
                return Err(Fault::new(
                    Code::BROKEN_OBJECT,
                    "the node keeps no journal of what is carried out once",
                ));
            };
            match journal.begin(&identity, print, &caller).await {
                Ok(Begun::New) => {}
                Ok(Begun::Before(result)) => {
                    *origin.lock() = Origin::Journal;
                    return *result;
                }
                Err(fault) => {
                    *origin.lock() = Origin::Refused;
                    return Err(fault);
                }
            }
            let mut answering =
                begin(object, call).unwrap_or_else(|fault| Box::pin(std::future::ready(Err(fault))));
            let result = std::future::poll_fn(|context| poll(&mut answering, context)).await;
            journal.end(&identity, &result).await?;
            result
        }
    }
}

#[cfg(not(feature = "journal"))]
mod refused {
    use std::sync::Arc;

    use rantai_client::object::{Answer, Call, Object};
    use rantai_client::shares::CallerKey;
    use rantai_client::wire::fault::{Code, Fault};
    use rantai_client::wire::request;

    use crate::dispatch::running::SharedOrigin;

    /// Without the feature `journal` there is none.
    #[derive(Default)]
    pub(in crate::dispatch) struct Keeper(());

    /// Call of a method marked `once`.
    pub(in crate::dispatch) struct Once;

    impl Once {
        /// Creates the call of an object with this identity.
        pub(in crate::dispatch) fn new(
            _: &Keeper,
            _: &str,
            _: &request::Identity<'_>,
            _: &str,
            _: &[u8],
            _: &CallerKey,
        ) -> Self {
            Self
        }

        /// Refuses the call.
        #[expect(clippy::unused_async, reason = "as it is with a journal")]
        pub(in crate::dispatch) async fn call(
            self,
            _: Arc<dyn Object>,
            _: Call,
            _: &SharedOrigin,
        ) -> Result<Answer, Fault> {
            let text = "the node was built without a journal of what is carried out once";
            Err(Fault::new(Code::BROKEN_OBJECT, text))
        }
    }
}
