//! Settings of the broker in nodes.toml: its URL and the files for TLS.

use std::fmt;

use rantai_client::session::{Address, TlsFiles};
use rantai_nodes::kind::beside;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Addresses of a broker: a string in which commas separate them, or a list.
#[derive(Debug)]
pub(super) struct Written(String);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;

        impl<'de> Visitor<'de> for Texts {
            type Value = Written;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address or a list of them")
            }

            fn visit_str<E>(self, text: &str) -> Result<Written, E> {
                Ok(Written(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<Written, A::Error> {
                let mut all: Vec<String> = Vec::new();
                while let Some(text) = texts.next_element()? {
                    all.push(text);
                }
                Ok(Written(all.join(",")))
            }
        }

        deserializer.deserialize_any(Texts)
    }
}

impl Written {
    /// Parses the address.
    ///
    /// # Errors
    ///
    /// The address is invalid, or contains a user: files of configurations are read by many.
    pub(super) fn address(self) -> Result<Address, String> {
        let address: Address = self.0.parse().map_err(|error| format!("broker: {error}"))?;
        if address.user().is_some() {
            let text = "broker: no user stands in an address here; write `user` and `password_file`";
            return Err(text.to_owned());
        }
        Ok(address)
    }
}

/// Resolves the files for TLS relative to the configuration.
///
/// # Errors
///
/// There is a key without a certificate.
pub(super) fn tls(files: TlsFiles, file: &str) -> Result<TlsFiles, String> {
    if files.key.is_some() && files.certificate.is_none() {
        return Err("key: whose key it is is not said; add `cert`".to_owned());
    }
    let path = |path: Option<std::path::PathBuf>| path.map(|path| beside(file, &path));
    Ok(TlsFiles { ca: path(files.ca), certificate: path(files.certificate), key: path(files.key) })
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn one_broker_or_several_with_files_beside_the_configuration() {
        let read = |text: &str| Config::from_toml(text, "/etc/rantai/nodes.toml").expect(text);
        let several = read("broker = ['mqtts://pi', 'mqtts://spare']\nca = 'ca.pem'\ncert = '/c.pem'");
        let address = several.broker.expect("it stands there");
        assert_eq!(address.to_string(), "mqtts://pi:8883,mqtts://spare:8883");
        assert_eq!(several.tls.ca, Some("/etc/rantai/ca.pem".into()));
        assert_eq!((several.tls.certificate, several.tls.key), (Some("/c.pem".into()), None));
        let one = read("broker = 'mqtts://pi,mqtts://spare'");
        assert_eq!(one.broker, Some(address));
    }

    #[test]
    fn the_example_of_the_guide_is_in_order() {
        let guide = include_str!("../../../../docs/connecting.md");
        let (_, example) = guide.split_once("```toml\n").expect("an example");
        let example = example.split_once("```").expect("its end").0;
        let config = Config::from_toml(example, "nodes.toml").expect("in order");
        assert!(config.broker.is_some() && config.tls.ca.is_some() && config.kinds.len() == 1);
    }

    #[test]
    fn secrets_in_addresses_and_keys_alone_are_refused() {
        for (text, told) in [
            ("broker = 'mqtt://ada:rahasia@pi'", "write `user` and `password_file`"),
            ("broker = 'http://pi'", "broker: \"http://pi\" is no broker's address"),
            ("broker = 5", "expected an address or a list of them"),
            ("broker = []", "there is no host"),
            ("key = 'client.key'", "add `cert`"),
        ] {
            let error = Config::from_toml(text, "nodes.toml").expect_err(text).to_string();
            assert!(error.contains(told) && !error.contains("rahasia"), "{error}");
        }
    }
}
