//! `user` lines of the configuration.
//!
//! There are no users of one's own here: a line whose restrictions nobody would enforce refuses
//! the start. What CONFIG REWRITE of Redis always writes about the default user says no more than
//! `requirepass`: it is accepted as long as both say the same.

use sha2::{Digest as _, Sha256};

/// Why a user is refused, and what to do.
pub(super) const REFUSAL: &str = "Access control lists (ACL) are not implemented, and without \
    them every client would have all rights. Remove this line; 'requirepass' protects the server \
    with one password for all";

/// What a line says of the default user, who may do everything.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DefaultUser {
    /// `nopass`
    Open,
    /// The SHA-256 of the only password.
    Password([u8; 32]),
}

/// Reads the words behind `user`.
pub(super) fn parse(words: &[&[u8]]) -> Result<DefaultUser, String> {
    let Some((b"default", rules)) = words.split_first().map(|(name, rules)| (*name, rules)) else {
        return Err(REFUSAL.into());
    };
    let mut user = None;
    let (mut on, mut keys, mut channels, mut commands) = (false, false, false, false);
    for rule in rules {
        let rule = match rule {
            [b'>', password @ ..] => Some(DefaultUser::Password(Sha256::digest(password).into())),
            [b'#', hash @ ..] => Some(DefaultUser::Password(hash_of_hex(hash).ok_or(REFUSAL)?)),
            _ => {
                match rule.to_ascii_lowercase().as_slice() {
                    b"on" => on = true,
                    b"~*" | b"allkeys" => keys = true,
                    b"&*" | b"allchannels" => channels = true,
                    b"+@all" | b"allcommands" => commands = true,
                    b"sanitize-payload" | b"skip-sanitize-payload" => {}
                    b"nopass" if user.is_none() => user = Some(DefaultUser::Open),
                    _ => return Err(REFUSAL.into()),
                }
                continue;
            }
        };
        if user.is_some() {
            return Err(REFUSAL.into());
        }
        user = rule;
    }
    user.filter(|_| on && keys && channels && commands)
        .ok_or_else(|| REFUSAL.into())
}

impl DefaultUser {
    /// Whether `requirepass` (empty: no password) says the same.
    pub(super) fn check(&self, password: &[u8]) -> Result<(), String> {
        let same = match self {
            Self::Open => password.is_empty(),
            Self::Password(hash) => {
                !password.is_empty() && Sha256::digest(password).as_slice() == hash
            }
        };
        if same {
            return Ok(());
        }
        Err(
            "The default user's password is what 'requirepass' says, which is not this one. \
             Remove this line and set 'requirepass'"
                .into(),
        )
    }
}

fn hash_of_hex(hex: &[u8]) -> Option<[u8; 32]> {
    let text = std::str::from_utf8(hex).ok()?;
    let digits = hex.len() == 64 && hex.iter().all(u8::is_ascii_hexdigit);
    let mut hash = [0; 32];
    for (at, byte) in hash.iter_mut().enumerate().filter(|_| digits) {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    digits.then_some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, password: &str) -> Result<(), String> {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        parse(&words)?.check(password.as_bytes())
    }

    #[test]
    fn what_redis_writes_about_the_default_user_is_accepted() {
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        for (line, password) in [
            (&format!("default on #{hash} ~* &* +@all"), "abc"),
            (
                &format!("default on sanitize-payload #{hash} ~* &* +@all"),
                "abc",
            ),
            (
                &"default on >abc allkeys allchannels allcommands".into(),
                "abc",
            ),
            (&"default on nopass ~* &* +@all".into(), ""),
        ] {
            assert_eq!(check(line, password), Ok(()), "{line}");
        }
    }

    #[test]
    fn what_would_not_be_enforced_is_refused() {
        for (line, password) in [
            ("alice on nopass ~* &* +@all", ""),
            ("Default on nopass ~* &* +@all", ""),
            ("default", ""),
            ("default off nopass ~* &* +@all", ""),
            ("default nopass ~* &* +@all", ""),
            ("default on ~* &* +@all", ""),
            ("default on nopass ~a* &* +@all", ""),
            ("default on nopass ~* &* +@all -get", ""),
            ("default on nopass ~* +@all", ""),
            ("default on nopass ~* &*", ""),
            ("default on nopass ~* &* +@all", "abc"),
            ("default on >abc ~* &* +@all", ""),
            ("default on >abd ~* &* +@all", "abc"),
            ("default on >abc >abd ~* &* +@all", "abc"),
            ("default on #abc ~* &* +@all", "abc"),
            ("default on nopass ~* &* +@all (~x +get)", ""),
        ] {
            assert!(check(line, password).is_err(), "{line}");
        }
    }
}
