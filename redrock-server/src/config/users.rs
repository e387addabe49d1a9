//! `user` lines of the configuration, and the users at start.

use super::Config;
use crate::acl::rules::{RuleError, merged};
use crate::acl::selector::has_space;
use crate::acl::table::{DEFAULT, Users};
use crate::acl::user::User;
use crate::acl::{Acl, file};

/// Why `user` lines and an ACL file exclude each other.
pub(super) const BOTH: &str = "Configuring Redis with users defined in redis.conf and at the same \
    setting an ACL file path is invalid. This setup is very likely to lead to configuration errors \
    and security holes, please define either an ACL file or declare users directly in your \
    redis.conf, but not both.";

/// Checks one line's user and rules, when it is read.
pub(super) fn check(name: &[u8], rules: &[&[u8]], is_known: bool) -> Result<(), String> {
    let error = |word: &[u8], why: &str| {
        let word = String::from_utf8_lossy(word);
        format!("Error in user declaration '{word}': {why}")
    };
    if is_known {
        let why = "Duplicate user found. A user can only be defined once in config files";
        return Err(error(name, why));
    }
    if has_space(name) {
        return Err("Spaces not allowed in ACL usernames".into());
    }
    let rules = merged(rules).map_err(|open| error(&open, "Unmatched parenthesis"))?;
    let mut user = User::new(false);
    for rule in &rules {
        user.apply(rule, false).map_err(|why| {
            // A password must not come to the log because its hash is wrong.
            let shown = if why == RuleError::BadHash {
                &b"#..."[..]
            } else {
                rule
            };
            error(shown, &why.to_string())
        })?;
    }
    Ok(())
}

/// Brings the users of the configuration in force: those of `user` lines, or those of the ACL
/// file.
pub fn load(acl: &Acl, config: &Config) -> Result<(), String> {
    let security = &config.security;
    let all_channels = security.all_channels_by_default;
    if let Some(path) = &security.acl_file {
        let name = path.display().to_string();
        let users = file::load(path, &name, all_channels)
            .map_err(|errors| format!("Aborting startup because of ACL errors: {errors}"))?;
        acl.replace_all(users);
        return Ok(());
    }
    for (name, user) in lines(config)? {
        if !user.is_enabled() {
            tracing::info!(
                "The user '{}' is disabled (there is no 'on' modifier in the user description). \
                 Make sure this is not a configuration error.",
                String::from_utf8_lossy(&name)
            );
        }
        acl.put(&name, user);
    }
    Ok(())
}

fn lines(config: &Config) -> Result<Users, String> {
    let all_channels = config.security.all_channels_by_default;
    let mut users = Users::new();
    for directive in config.security.directives.iter() {
        let ("user", [name, rules @ ..]) = (directive.name.as_str(), directive.words.as_slice())
        else {
            continue;
        };
        let mut user = User::new(all_channels);
        let words: Vec<&[u8]> = rules.iter().map(Vec::as_slice).collect();
        let shown = String::from_utf8_lossy(name);
        let rules = merged(&words).map_err(|_| format!("Unmatched parenthesis: user '{shown}'"))?;
        for rule in rules {
            // Channel patterns may contradict `acl-pubsub-default`, which may stand anywhere.
            user.apply(&rule, all_channels).map_err(|why| {
                format!("Error loading ACL rules for the user named '{shown}': {why}")
            })?;
        }
        debug_assert!(name == DEFAULT || !users.contains_key(name));
        users.insert(name.clone(), user);
    }
    Ok(users)
}
