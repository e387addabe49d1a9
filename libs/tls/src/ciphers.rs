//! `tls-ciphers` (TLSv1.2, OpenSSL's language of lists) and `tls-ciphersuites` (TLSv1.3, names).
//!
//! As in OpenSSL, words that name nothing are passed over, and only a list that leaves nothing is
//! an error. It leaves nothing sooner here: of TLSv1.2 rustls has the six suites that OpenSSL
//! recommends, with ephemeral keys and authenticated encryption.

use super::TlsError;
use super::protocols::Protocols;
use rustls::SupportedCipherSuite;
use rustls::crypto::ring::cipher_suite as suite;

/// A suite of TLSv1.2: its OpenSSL name and the words that choose it.
struct Suite {
    name: &'static str,
    words: &'static [&'static str],
    suite: SupportedCipherSuite,
}

const ECDSA: &[&str] = &["aECDSA", "ECDSA"];
const RSA: &[&str] = &["aRSA"];
const AES256: &[&str] = &["AES256", "AES", "AESGCM"];
const AES128: &[&str] = &["AES128", "AES", "AESGCM"];
const CHACHA20: &[&str] = &["CHACHA20"];
/// Words that choose each of them.
const ALL: &[&str] = &[
    "ALL", "DEFAULT", "HIGH", "TLSv1.2", "ECDHE", "EECDH", "kECDHE", "kEECDH", "ECDH", "AEAD",
];

/// In the order of OpenSSL's default.
const SUITES: [Suite; 6] = [
    Suite {
        name: "ECDHE-ECDSA-AES256-GCM-SHA384",
        words: ECDSA,
        suite: suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    },
    Suite {
        name: "ECDHE-RSA-AES256-GCM-SHA384",
        words: RSA,
        suite: suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    },
    Suite {
        name: "ECDHE-ECDSA-CHACHA20-POLY1305",
        words: ECDSA,
        suite: suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    },
    Suite {
        name: "ECDHE-RSA-CHACHA20-POLY1305",
        words: RSA,
        suite: suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    },
    Suite {
        name: "ECDHE-ECDSA-AES128-GCM-SHA256",
        words: ECDSA,
        suite: suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    },
    Suite {
        name: "ECDHE-RSA-AES128-GCM-SHA256",
        words: RSA,
        suite: suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    },
];

/// Those of TLSv1.3.
const SUITES13: [(&str, SupportedCipherSuite); 3] = [
    ("TLS_AES_256_GCM_SHA384", suite::TLS13_AES_256_GCM_SHA384),
    (
        "TLS_CHACHA20_POLY1305_SHA256",
        suite::TLS13_CHACHA20_POLY1305_SHA256,
    ),
    ("TLS_AES_128_GCM_SHA256", suite::TLS13_AES_128_GCM_SHA256),
];

/// Suites of TLSv1.3 that OpenSSL knows and rustls does not.
const ABSENT13: [&str; 2] = ["TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256"];

impl Suite {
    fn cipher_words(&self) -> &'static [&'static str] {
        match self.name {
            name if name.contains("AES256") => AES256,
            name if name.contains("AES128") => AES128,
            _ => CHACHA20,
        }
    }

    /// Whether a word of a list, which may join several by `+`, means this suite.
    fn is_meant(&self, word: &str) -> bool {
        word.split('+').all(|part| {
            part == self.name
                || ALL.contains(&part)
                || self.words.contains(&part)
                || self.cipher_words().contains(&part)
        })
    }
}

/// The suites to offer and accept, in order of preference.
pub(crate) fn choose(
    protocols: Protocols,
    ciphers: Option<&str>,
    cipher_suites: Option<&str>,
    notices: &mut Vec<String>,
) -> Result<Vec<SupportedCipherSuite>, TlsError> {
    let mut chosen = Vec::new();
    if protocols.tls13 {
        chosen.extend(choose13(cipher_suites, notices)?);
    }
    if protocols.tls12 {
        chosen.extend(choose12(ciphers)?);
    }
    Ok(chosen)
}

fn choose13(
    option: Option<&str>,
    notices: &mut Vec<String>,
) -> Result<Vec<SupportedCipherSuite>, TlsError> {
    let Some(text) = option else {
        return Ok(SUITES13.map(|(_, suite)| suite).to_vec());
    };
    let error = |why: String| TlsError::Ciphers {
        option: "tls-ciphersuites",
        value: text.to_owned(),
        why,
    };
    let mut chosen: Vec<SupportedCipherSuite> = Vec::new();
    for word in text.split(':').filter(|word| !word.is_empty()) {
        match SUITES13.iter().find(|(name, _)| *name == word) {
            Some((_, suite)) if chosen.contains(suite) => {}
            Some((_, suite)) => chosen.push(*suite),
            None if ABSENT13.contains(&word) => {
                notices.push(format!(
                    "tls-ciphersuites: {word} is not supported and left out"
                ));
            }
            None => return Err(error(format!("'{word}' is no suite of TLSv1.3"))),
        }
    }
    if chosen.is_empty() {
        let names = SUITES13.map(|(name, _)| name).join(":");
        return Err(error(format!("no suite is left, name some of {names}")));
    }
    Ok(chosen)
}

fn choose12(option: Option<&str>) -> Result<Vec<SupportedCipherSuite>, TlsError> {
    let text = option.unwrap_or("DEFAULT");
    let mut chosen: Vec<&Suite> = Vec::new();
    let mut banned: Vec<&str> = Vec::new();
    for word in text.split([':', ',', ' ', ';']) {
        let (action, word) = match word.split_at_checked(1) {
            Some((action @ ("!" | "-" | "+"), rest)) => (action, rest),
            // How strong keys must be is rustls' to say: it takes no weak ones.
            Some(("@", _)) | None => continue,
            _ => ("", word),
        };
        let (meant, others): (Vec<&Suite>, Vec<&Suite>) =
            chosen.iter().partition(|suite| suite.is_meant(word));
        match action {
            "+" => chosen = [others, meant].concat(),
            "-" | "!" => {
                chosen = others;
                if action == "!" {
                    banned.push(word);
                }
            }
            _ => {
                let more = SUITES.iter().filter(|suite| {
                    suite.is_meant(word)
                        && !banned.iter().any(|banned| suite.is_meant(banned))
                        && !meant.iter().any(|known| known.name == suite.name)
                });
                chosen.extend(more);
            }
        }
    }
    if chosen.is_empty() {
        let names = SUITES.map(|suite| suite.name).join(":");
        return Err(TlsError::Ciphers {
            option: "tls-ciphers",
            value: text.to_owned(),
            why: format!("no cipher is left, name some of {names}"),
        });
    }
    Ok(chosen.into_iter().map(|suite| suite.suite).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Protocols = Protocols {
        tls12: true,
        tls13: true,
    };

    fn names12(text: &str) -> Vec<&'static str> {
        let chosen = choose12(Some(text)).unwrap();
        let name = |suite: &SupportedCipherSuite| {
            SUITES
                .iter()
                .find(|known| known.suite == *suite)
                .unwrap()
                .name
        };
        chosen.iter().map(name).collect()
    }

    #[test]
    fn lists_are_read_as_openssl_reads_them() {
        assert_eq!(names12("DEFAULT").len(), 6);
        assert_eq!(names12("HIGH:!aNULL:@STRENGTH").len(), 6);
        assert_eq!(names12("ECDHE+AESGCM:!AES128").len(), 2);
        assert_eq!(
            names12("ECDHE-RSA-AES128-GCM-SHA256:AES128-SHA:ECDHE-RSA-AES256-GCM-SHA384"),
            ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384"]
        );
        // What was banned does not come back, what was removed does.
        assert_eq!(names12("ALL:!CHACHA20:CHACHA20").len(), 4);
        assert_eq!(names12("ALL:-CHACHA20:CHACHA20").len(), 6);
        let last = names12("ALL:+ECDSA");
        assert!(
            last[..3].iter().all(|name| name.contains("-RSA-")),
            "{last:?}"
        );
        assert!(names12("aRSA").iter().all(|name| name.contains("-RSA-")));
    }

    #[test]
    fn a_list_that_leaves_nothing_is_refused_with_what_there_is() {
        for text in ["AES128-SHA256", "ALL:!ECDHE", "-ALL", ""] {
            let error = choose12(Some(text)).unwrap_err().to_string();
            assert!(error.contains("ECDHE-RSA-AES128-GCM-SHA256"), "{error}");
        }
        let mut notices = Vec::new();
        let mut suites = |text: &str| choose(BOTH, None, Some(text), &mut notices);
        assert_eq!(suites("TLS_AES_128_GCM_SHA256").unwrap().len(), 7);
        assert_eq!(
            suites("TLS_AES_128_CCM_SHA256:TLS_AES_256_GCM_SHA384")
                .unwrap()
                .len(),
            7
        );
        assert!(suites("TLS_AES_128_CCM_SHA256").is_err());
        assert!(suites("ECDHE-RSA-AES128-GCM-SHA256").is_err());
        assert_eq!(notices.len(), 2);
    }

    #[test]
    fn ciphers_of_a_version_that_is_not_spoken_do_not_matter() {
        let only13 = Protocols {
            tls12: false,
            tls13: true,
        };
        let chosen = choose(only13, Some("AES128-SHA"), None, &mut Vec::new()).unwrap();
        assert_eq!(chosen.len(), 3);
    }
}
