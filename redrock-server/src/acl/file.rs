//! The ACL file: a line for each user.

use super::rules::{RuleError, merged};
use super::selector::has_space;
use super::table::{Account, Users};
use super::user::User;
use crate::config::os_error_text;
use crate::config::rewrite::replace_file;
use std::path::Path;
use std::sync::Arc;

const NOTHING_CHANGED: &str =
    "WARNING: ACL errors detected, no change to the previously active ACL rules was performed";

/// The users that a file defines. `name` is what errors call it, `all_channels`
/// `acl-pubsub-default`. The error tells of all lines that are wrong.
pub fn load(path: &Path, name: &str, all_channels: bool) -> Result<Users, String> {
    match std::fs::read(path) {
        Ok(text) => parse(&text, name, all_channels),
        Err(error) => Err(format!(
            "Error loading ACLs, opening file '{name}': {}",
            os_error_text(&error)
        )),
    }
}

/// As [`load`], of a file's content.
pub fn parse(text: &[u8], name: &str, all_channels: bool) -> Result<Users, String> {
    let mut users = Users::new();
    let mut errors = String::new();
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = trimmed(line, b" \t\r\n");
        if !line.is_empty() {
            let place = format!("{name}:{}", number + 1);
            parse_line(
                line,
                &place,
                number + 1,
                all_channels,
                &mut users,
                &mut errors,
            );
        }
    }
    if errors.is_empty() {
        return Ok(users);
    }
    errors.push_str(NOTHING_CHANGED);
    Err(errors)
}

fn parse_line(
    line: &[u8],
    place: &str,
    number: usize,
    all_channels: bool,
    users: &mut Users,
    errors: &mut String,
) {
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let (name, rules) = match words.as_slice() {
        [b"user", name, rules @ ..] => (*name, rules),
        _ => {
            errors.push_str(&format!(
                "{place} should start with user keyword followed by the username. "
            ));
            return;
        }
    };
    let shown = String::from_utf8_lossy(name);
    if has_space(name) {
        errors.push_str(&format!(
            "'{place}: username '{shown}' contains invalid characters. "
        ));
        return;
    }
    if users.contains_key(name) {
        errors.push_str(&format!(
            "WARNING: Duplicate user '{shown}' found on line {number}. "
        ));
        return;
    }
    let mut user = User::new(all_channels);
    match merged(rules) {
        Ok(rules) => apply(&mut user, &rules, place, all_channels, errors),
        Err(_) => errors.push_str(&format!(
            "{place}: Unmatched parenthesis in selector definition."
        )),
    }
    users.insert(name.to_vec(), user);
}

/// Of all that is wrong but unknown commands only the first is told: it may cause the rest.
fn apply(user: &mut User, rules: &[Vec<u8>], place: &str, all_channels: bool, errors: &mut String) {
    let mut told = false;
    for rule in rules {
        let rule = trimmed(rule, b"\t\r\n");
        match user.apply(rule, all_channels) {
            Ok(()) => {}
            Err(why @ RuleError::Unknown) => {
                let shown = String::from_utf8_lossy(rule);
                errors.push_str(&format!(
                    "{place}: Error in applying operation '{shown}': {why}. "
                ));
            }
            Err(why) if !told => {
                errors.push_str(&format!("{place}: {why}. "));
                told = true;
            }
            Err(_) => {}
        }
    }
}

fn trimmed<'a>(mut text: &'a [u8], bytes: &[u8]) -> &'a [u8] {
    while let [first, rest @ ..] = text
        && bytes.contains(first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && bytes.contains(last)
    {
        text = rest;
    }
    text
}

/// A file's content for these accounts.
pub fn content(accounts: &[Arc<Account>]) -> Vec<u8> {
    let mut text = Vec::new();
    for account in accounts {
        text.extend(account.line());
        text.push(b'\n');
    }
    text
}

/// Durably replaces the file.
pub fn save(path: &Path, content: &[u8]) -> std::io::Result<()> {
    // Two at a time would share the file aside.
    static ONE_AT_A_TIME: parking_lot::Mutex<()> = parking_lot::Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    replace_file(path, content)
}
