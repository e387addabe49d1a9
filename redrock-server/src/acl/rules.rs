//! Rules applied to users, all or none, and what is wrong with them.

use super::user::User;

/// Why a rule is refused. The texts are Redis's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// No such rule, or a pattern with a space.
    #[error("Syntax error")]
    Syntax,
    /// No such command or category.
    #[error("Unknown command or category name in ACL")]
    Unknown,
    /// A key pattern although all keys are allowed.
    #[error(
        "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not \
         have any effect. Try 'resetkeys' to start with an empty list of patterns"
    )]
    KeysAfterAll,
    /// A channel pattern although all channels are allowed.
    #[error(
        "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does \
         not have any effect. Try 'resetchannels' to start with an empty list of channels"
    )]
    ChannelsAfterAll,
    /// A password is to be removed that the user has not.
    #[error("The password you are trying to remove from the user does not exist")]
    NoSuchPassword,
    /// Not a password's hash.
    #[error(
        "The password hash must be exactly 64 characters and contain only lowercase hexadecimal \
         characters"
    )]
    BadHash,
    /// `+command|subcommand|argument`
    #[error("Allowing first-arg of a subcommand is not supported")]
    FirstArgumentOfSubcommand,
}

/// What comes of rules for a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApplyError {
    /// A selector was opened by this rule and never closed.
    Unmatched(Vec<u8>),
    /// This rule is refused.
    Rule(Vec<u8>, RuleError),
}

impl ApplyError {
    /// SETUSER's words, without a code.
    pub fn text(&self) -> Vec<u8> {
        match self {
            Self::Unmatched(rule) => [
                b"Unmatched parenthesis in acl selector starting at '",
                rule.as_slice(),
                b"'.",
            ]
            .concat(),
            Self::Rule(rule, why) => [
                b"Error in ACL SETUSER modifier '",
                rule.as_slice(),
                b"': ",
                why.to_string().as_bytes(),
            ]
            .concat(),
        }
    }
}

/// Joins selectors that stand in several words; the word that opens one which nobody closes is
/// the error.
pub fn merged(words: &[&[u8]]) -> Result<Vec<Vec<u8>>, Vec<u8>> {
    let mut rules: Vec<Vec<u8>> = Vec::with_capacity(words.len());
    let mut open: Option<(&[u8], Vec<u8>)> = None;
    for word in words {
        let closes = word.ends_with(b")");
        match &mut open {
            Some((_, rule)) => {
                rule.push(b' ');
                rule.extend_from_slice(word);
                if closes {
                    rules.extend(open.take().map(|(_, rule)| rule));
                }
            }
            None if word.starts_with(b"(") && !closes => open = Some((word, word.to_vec())),
            None => rules.push(word.to_vec()),
        }
    }
    match open {
        Some((start, _)) => Err(start.to_vec()),
        None => Ok(rules),
    }
}

/// The user with all rules applied.
pub fn changed(user: &User, words: &[&[u8]], all_channels: bool) -> Result<User, ApplyError> {
    let mut user = user.clone();
    for rule in merged(words).map_err(ApplyError::Unmatched)? {
        user.apply(&rule, all_channels)
            .map_err(|why| ApplyError::Rule(rule, why))?;
    }
    Ok(user)
}
