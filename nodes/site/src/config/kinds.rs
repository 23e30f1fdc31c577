//! Table of the kinds of objects that a configuration may contain. A new kind is one line here.

use std::path::PathBuf;

use serde::Deserialize;

use super::{CallLimits, Config, broker};
use rantai_adopt::AdoptSettings;
use rantai_client::session::TlsFiles;
use rantai_files::FolderSettings;
#[cfg(feature = "gateway")]
use rantai_gateway::settings::{Rest, Soap};
use rantai_imaging::ImagingSettings;
use rantai_nodes::chain::ChainLink;
use rantai_nodes::kind::Kind;
#[cfg(feature = "gateway")]
use rantai_pyro::settings::Pyro;
use rantai_systems::calculator::CalculatorSettings;
use rantai_systems::clock::CheckoutSettings;
use rantai_systems::echo::EchoSettings;
use rantai_systems::insult::filter::FilterSettings;
use rantai_systems::insult::notifier::NotifierSettings;
use rantai_systems::insult::service::ServiceSettings;
use rantai_systems::insult::store::StoreSettings;
use rantai_systems::lending::LendingSettings;
use rantai_systems::pages::PagesSettings;
use rantai_systems::sensor::SensorSettings;
use rantai_systems::upcall::UpcallSettings;
use rantai_systems::welcome::WelcomeSettings;
use rantai_tasks::TaskLedger;

/// Generates [`Written`] from the table `key: settings`. The keys are fields of the type that is parsed, so that an unknown
/// key is an error with its position and the known keys.
macro_rules! kinds {
    ($($key:ident: $settings:ty,)*) => {
        /// Configuration file, as it is parsed.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct Written {
            node: Option<String>,
            root: Option<String>,
            broker: Option<broker::Written>,
            ca: Option<PathBuf>,
            cert: Option<PathBuf>,
            key: Option<PathBuf>,
            user: Option<String>,
            password_file: Option<PathBuf>,
            #[serde(default)]
            admins: Vec<String>,
            $(#[serde(default)] $key: Vec<$settings>,)*
            tasks: Option<TaskLedger>,
            #[serde(default)]
            calls: CallLimits,
            #[cfg(feature = "gateway")]
            rest: Option<Rest>,
            #[cfg(feature = "gateway")]
            soap: Option<Soap>,
            #[cfg(feature = "gateway")]
            pyro: Option<Box<Pyro>>,
        }

        impl Config {
            /// Converts a parsed file.
            pub(super) fn read(file: Written) -> Result<Self, String> {
                let mut kinds: Vec<std::sync::Arc<dyn Kind>> = Vec::new();
                $(kinds.extend(file.$key.into_iter().map(|entry| std::sync::Arc::new(entry) as _));)*
                Ok(Self {
                    node: file.node,
                    root: file.root,
                    broker: file.broker.map(broker::Written::address).transpose()?,
                    tls: TlsFiles { ca: file.ca, certificate: file.cert, key: file.key },
                    user: file.user,
                    password_file: file.password_file,
                    admins: file.admins,
                    kinds,
                    calls: rantai_client::object::Calls::default(),
                    tasks: file.tasks,
                    call_limits: file.calls,
                    #[cfg(feature = "gateway")]
                    rest: file.rest,
                    #[cfg(feature = "gateway")]
                    soap: file.soap,
                    #[cfg(feature = "gateway")]
                    pyro: file.pyro,
                })
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
    adopt: AdoptSettings,
    insult_store: StoreSettings,
    imaging: ImagingSettings,
    insult_service: ServiceSettings,
    insult_filter: FilterSettings,
    insult_notifier: NotifierSettings,
}
