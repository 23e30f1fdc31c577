//! The table of kinds: which objects a configuration may have. A new kind is one line here.

use serde::Deserialize;

use super::Config;
use crate::chain::ChainLink;
#[cfg(feature = "gateway")]
use crate::gateway::settings::{Rest, Soap};
use crate::imaging::ImagingSettings;
use crate::kind::Kind;
use crate::services::calculator::CalculatorSettings;
use crate::services::clock::CheckoutSettings;
use crate::services::echo::EchoSettings;
use crate::services::files::FolderSettings;
use crate::services::insult::filter::FilterSettings;
use crate::services::insult::notifier::NotifierSettings;
use crate::services::insult::service::ServiceSettings;
use crate::services::insult::store::StoreSettings;
use crate::services::lending::LendingSettings;
use crate::services::pages::PagesSettings;
use crate::services::sensor::SensorSettings;
use crate::services::upcall::UpcallSettings;
use crate::services::welcome::WelcomeSettings;
use crate::tasks::TaskLedger;

/// Makes [`File`] of the table `key: settings`. The keys stand in the type that is read, so that an unknown one is an
/// error with its place, and with those that may be written.
macro_rules! kinds {
    ($($key:ident: $settings:ty,)*) => {
        /// The text of a configuration.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct File {
            node: Option<String>,
            root: Option<String>,
            $(#[serde(default)] $key: Vec<$settings>,)*
            tasks: Option<TaskLedger>,
            #[cfg(feature = "gateway")]
            rest: Option<Rest>,
            #[cfg(feature = "gateway")]
            soap: Option<Soap>,
        }

        impl From<File> for Config {
            fn from(file: File) -> Self {
                let mut kinds: Vec<std::sync::Arc<dyn Kind>> = Vec::new();
                $(kinds.extend(file.$key.into_iter().map(|entry| std::sync::Arc::new(entry) as _));)*
                Self {
                    node: file.node,
                    root: file.root,
                    kinds,
                    calls: crate::calls::Calls::default(),
                    tasks: file.tasks,
                    #[cfg(feature = "gateway")]
                    rest: file.rest,
                    #[cfg(feature = "gateway")]
                    soap: file.soap,
                }
            }
        }
    };
}

kinds! {
    chain: ChainLink,
    echo: EchoSettings,
    calculator: CalculatorSettings,
    welcome: WelcomeSettings,
    pages: PagesSettings,
    clock: CheckoutSettings,
    lending: LendingSettings,
    files: FolderSettings,
    sensor: SensorSettings,
    upcall: UpcallSettings,
    insult_store: StoreSettings,
    imaging: ImagingSettings,
    insult_service: ServiceSettings,
    insult_filter: FilterSettings,
    insult_notifier: NotifierSettings,
}
