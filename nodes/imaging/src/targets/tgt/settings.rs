//! Configuration of tgt, and checks of the texts that are passed to it.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::super::target::{Access, TargetError};

/// Maximum length of a target name, in bytes (RFC 7143, 4.2.7.2).
const MAX_TARGET_NAME_BYTES: usize = 223;

/// Configuration of tgtd.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Address at which tgtd listens, and which nodes connect to: an address of this machine, and a port from 1 to 32767.
    pub portal: SocketAddr,
    /// Control number, unique among the tgtd of a machine, at most 32767; 0 for the first that is free.
    #[serde(default)]
    pub control: u16,
    /// Prefix of target names: `{prefix}:{node}`.
    #[serde(default = "prefix")]
    pub prefix: String,
    /// Folder for the identity of our tgtd process, not shared with other services. Default: `tgt` in the folder of the disks.
    #[serde(default)]
    pub folder: PathBuf,
}

fn prefix() -> String {
    "iqn.2026-01.example.rantai".to_owned()
}

impl Settings {
    /// Checks whether tgtd accepts the settings as they are.
    pub(super) fn check(&self) -> Result<(), TargetError> {
        let no = |text: String| Err(TargetError(text));
        // tgtd stores both in signed 16-bit integers.
        if !(1..=i16::MAX.cast_unsigned()).contains(&self.portal.port()) {
            return no(format!("the portal {} needs a port from 1 to 32767", self.portal));
        }
        if self.control > i16::MAX.cast_unsigned() {
            return no(format!("the control number {} is above 32767", self.control));
        }
        if !is_word(&self.prefix) {
            return no(format!("`{}` is no beginning for names of targets", self.prefix));
        }
        Ok(())
    }

    /// Returns the name of a node's target.
    pub(super) fn target(&self, node: &str) -> Result<String, TargetError> {
        let name = format!("{}:{node}", self.prefix);
        if is_word(node) && name.len() <= MAX_TARGET_NAME_BYTES {
            Ok(name)
        } else {
            Err(TargetError(format!("`{name}` is no name for a target")))
        }
    }
}

/// Checks whether tgt accepts the credentials as they are: it separates parameters by commas.
pub(super) fn check(access: &Access) -> Result<(), TargetError> {
    let no =
        |what: &str| Err(TargetError(format!("tgt cannot have such {what}: letters, digits and .:_- only")));
    match access {
        Access { initiator, .. } if !is_word(initiator) || initiator.len() > MAX_TARGET_NAME_BYTES => {
            no("an initiator")
        }
        Access { user, .. } if !is_word(user) => no("a user"),
        Access { secret, .. } if !is_word(secret) => no("a secret"),
        _ => Ok(()),
    }
}

fn is_word(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".:_-".contains(&byte);
    (1..=MAX_TARGET_NAME_BYTES).contains(&text.len()) && text.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(more: &str) -> Settings {
        toml::from_str(&format!("portal = '127.0.0.1:13260'\nfolder = '/run/rantai'\n{more}"))
            .expect("settings")
    }

    #[test]
    fn settings_have_defaults_and_no_unknown_keys() {
        let plain = settings("");
        assert_eq!((plain.control, plain.prefix.as_str()), (0, "iqn.2026-01.example.rantai"));
        assert!(toml::from_str::<Settings>("portal = '127.0.0.1:13260'\nfolder = '/'\nport = 1").is_err());
    }

    #[test]
    fn settings_that_tgtd_would_truncate_are_refused() {
        let good = settings("control = 32767");
        good.check().expect("these are good");
        for port in [0, 32768, 65535] {
            let portal = SocketAddr::new(good.portal.ip(), port);
            assert!(Settings { portal, ..good.clone() }.check().is_err(), "{port}");
        }
        assert!(Settings { control: 32768, ..good.clone() }.check().is_err());
        assert!(Settings { prefix: "iqn,x".to_owned(), ..good }.check().is_err());
    }

    #[test]
    fn target_names_that_tgt_would_truncate_are_refused() {
        let settings = settings("prefix = 'iqn.x'");
        assert_eq!(settings.target("cisco-5"), Ok("iqn.x:cisco-5".to_owned()));
        for bad in ["", "a,b", "a b", "a\nTarget 1: b", "é", &"a".repeat(218)] {
            assert!(settings.target(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn special_characters_are_refused_and_errors_contain_no_secret() {
        let good =
            Access { initiator: "iqn.x:i".into(), user: "u".into(), secret: "abcdefgh12345678".into() };
        check(&good).expect("these are good");
        assert!(
            check(&Access { initiator: "iqn.x:i,initiator-address=ALL".into(), ..good.clone() }).is_err()
        );
        assert!(check(&Access { user: "u,password=x".into(), ..good.clone() }).is_err());
        let error = check(&Access { secret: "secret,".into(), ..good }).expect_err("it has a comma");
        assert!(!error.0.contains("secret,"), "{error}");
    }
}
