//! `tls-protocols`: names separated by spaces.

use super::TlsError;
use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};

/// Which versions are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Protocols {
    pub(crate) tls12: bool,
    pub(crate) tls13: bool,
}

impl Protocols {
    pub(crate) fn versions(self) -> Vec<&'static SupportedProtocolVersion> {
        let known = [(self.tls13, &TLS13), (self.tls12, &TLS12)];
        let spoken = known.into_iter().filter(|(spoken, _)| *spoken);
        spoken.map(|(_, version)| version).collect()
    }
}

/// Reads the option; versions that are passed over are told in `notices`.
pub(crate) fn parse(
    option: Option<&str>,
    notices: &mut Vec<String>,
) -> Result<Protocols, TlsError> {
    let Some(text) = option else {
        return Ok(Protocols {
            tls12: true,
            tls13: true,
        });
    };
    let mut found = Protocols {
        tls12: false,
        tls13: false,
    };
    let mut old = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        match word.to_ascii_lowercase().as_str() {
            "tlsv1.2" => found.tls12 = true,
            "tlsv1.3" => found.tls13 = true,
            "tlsv1" | "tlsv1.1" => old.push(word),
            _ => return Err(TlsError::Protocols { only_old: false }),
        }
    }
    if !found.tls12 && !found.tls13 {
        return Err(TlsError::Protocols {
            only_old: !old.is_empty(),
        });
    }
    if !old.is_empty() {
        notices.push(format!(
            "tls-protocols: {} is not supported and left out, the others are spoken",
            old.join(" ")
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_named_as_in_redis_and_old_ones_are_told() {
        let read = |text: Option<&str>| {
            let mut notices = Vec::new();
            parse(text, &mut notices).map(|p| (p.tls12, p.tls13, notices.len()))
        };
        assert_eq!(read(None).unwrap(), (true, true, 0));
        assert_eq!(read(Some("tlsv1.2")).unwrap(), (true, false, 0));
        assert_eq!(read(Some("TLSv1.3  TLSv1.2")).unwrap(), (true, true, 0));
        assert_eq!(
            read(Some("TLSv1 TLSv1.1 TLSv1.2")).unwrap(),
            (true, false, 1)
        );
        let old = read(Some("TLSv1.1")).unwrap_err().to_string();
        assert!(old.ends_with("speaks no older ones."), "{old}");
        let wrong = read(Some("SSLv3 TLSv1.2")).unwrap_err().to_string();
        assert!(wrong.starts_with("Invalid tls-protocols"), "{wrong}");
    }
}
