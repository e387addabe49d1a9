//! Handshakes between our two sides, over no network: who is let in, and what is refused.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod certificates;
mod files;
mod peers;

use certificates::{Certificates, LEAF};
use peers::{Outcome, options, shake, shake_with, without_certificate};
use redrock_tls::{AuthClients, Options, client_config, server_config};
use rustls::client::Resumption;
use rustls::{HandshakeKind, ProtocolVersion};
use std::sync::Arc;

/// A root and two certificates of it, `server` and `client`.
fn usual() -> Certificates {
    let made = Certificates::new();
    made.root("ca", 10);
    made.issue("server", "ca", "rsa:2048", LEAF, 10);
    made.issue("client", "ca", "prime256v1", LEAF, 10);
    made
}

#[test]
fn both_versions_are_spoken_with_every_kind_of_key() {
    let made = usual();
    made.issue("ed", "ca", "ed25519", LEAF, 10);
    made.issue("p384", "ca", "secp384r1", LEAF, 10);
    for (server, client) in [
        ("server", "client"),
        ("client", "server"),
        ("ed", "p384"),
        ("p384", "ed"),
    ] {
        for (protocols, version) in [
            ("TLSv1.2", ProtocolVersion::TLSv1_2),
            ("TLSv1.3", ProtocolVersion::TLSv1_3),
        ] {
            let server = Options {
                protocols: Some(protocols.into()),
                ..options(&made, server)
            };
            let outcome = shake(&server, &options(&made, client));
            assert_eq!(outcome.unwrap().version, version);
        }
    }
    let (old, new) = (
        Options {
            protocols: Some("TLSv1.2".into()),
            ..options(&made, "server")
        },
        Options {
            protocols: Some("TLSv1.3".into()),
            ..options(&made, "client")
        },
    );
    shake(&old, &new).unwrap_err();
}

#[test]
fn certificates_of_clients_are_asked_for_as_configured() {
    let made = usual();
    made.root("other", 10);
    made.issue("stranger", "other", "prime256v1", LEAF, 10);
    for (auth_clients, without, stranger) in [
        (AuthClients::Yes, false, false),
        (AuthClients::Optional, true, false),
        (AuthClients::No, true, true),
    ] {
        for protocols in ["TLSv1.2", "TLSv1.3"] {
            let server = Options {
                auth_clients,
                protocols: Some(protocols.into()),
                ..options(&made, "server")
            };
            shake(&server, &options(&made, "client")).unwrap();
            let client = without_certificate(&options(&made, "client"));
            let outcome = shake_with(&server, client);
            assert_eq!(outcome.is_ok(), without, "{auth_clients:?} {outcome:?}");
            let outcome = shake(&server, &options(&made, "stranger"));
            assert_eq!(outcome.is_ok(), stranger, "{auth_clients:?} {outcome:?}");
        }
    }
    // And a server of somebody unknown is not talked to, whatever its clients need.
    let strange = Options {
        auth_clients: AuthClients::No,
        ..options(&made, "stranger")
    };
    let error = shake(&strange, &options(&made, "client")).unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");
}

#[test]
fn certificates_beyond_their_time_or_purpose_are_refused() {
    let made = usual();
    made.issue_in_2020("expired", "ca", LEAF);
    made.issue_in_2020("oldroot", "oldroot", "basicConstraints=CA:TRUE");
    made.issue("orphan", "oldroot", "prime256v1", LEAF, 10);
    let serves = format!("{LEAF}\nextendedKeyUsage=serverAuth");
    made.issue("serves", "ca", "prime256v1", &serves, 10);
    made.issue("expired1", "ca", "prime256v1", "", -1);
    let server = options(&made, "server");
    for name in ["expired", "expired1"] {
        let error = shake(&server, &options(&made, name)).unwrap_err();
        assert!(error.contains("Expired"), "{name} {error}");
    }
    shake(&server, &options(&made, "serves")).unwrap_err();
    shake(&options(&made, "serves"), &options(&made, "client")).unwrap();
    let trusts_old = Options {
        ca_cert_file: Some(made.crt("oldroot")),
        ..options(&made, "server")
    };
    shake(&trusts_old, &options(&made, "orphan")).unwrap_err();
}

#[test]
fn certificates_of_version_1_are_taken_where_a_trusted_authority_signed_them() {
    let made = usual();
    for (name, kind) in [("one", "rsa:2048"), ("two", "prime256v1")] {
        made.issue(name, "ca", kind, "", 10);
    }
    // Signed by one who is trusted, but is no authority.
    made.issue("forged", "client", "prime256v1", "", 10);
    made.root("other", 10);
    made.make_key("false", "prime256v1");
    made.openssl("req -x509 -new -key false.key -days 10 -subj /O=Test/CN=ca -out false.crt");
    made.issue("namesake", "false", "prime256v1", "", 10);
    for protocols in ["TLSv1.2", "TLSv1.3"] {
        for (server, client) in [("one", "two"), ("two", "one"), ("one", "one")] {
            let server = Options {
                protocols: Some(protocols.into()),
                ..options(&made, server)
            };
            shake(&server, &options(&made, client)).unwrap();
        }
    }
    let both = made.dir().join("both.crt");
    let read = |name| std::fs::read(made.crt(name)).unwrap();
    std::fs::write(&both, [read("ca"), read("client")].concat()).unwrap();
    let server = Options {
        ca_cert_file: Some(both),
        ..options(&made, "server")
    };
    shake(&server, &options(&made, "two")).unwrap();
    for name in ["forged", "namesake"] {
        let error = shake(&server, &options(&made, name)).unwrap_err();
        assert!(error.contains("UnknownIssuer"), "{name} {error}");
    }
}

#[test]
fn a_certificate_that_is_its_own_root_is_taken_if_it_is_trusted_itself() {
    let made = usual();
    made.root("self", 10);
    let own = Options {
        ca_cert_file: Some(made.crt("self")),
        ..options(&made, "self")
    };
    for protocols in ["TLSv1.2", "TLSv1.3"] {
        let own = Options {
            protocols: Some(protocols.into()),
            ..own.clone()
        };
        shake(&own, &own).unwrap();
    }
    // Same names and another key.
    made.root("self", 10);
    let other = Options {
        ca_cert_file: Some(made.crt("self")),
        ..options(&made, "self")
    };
    let first = client_config(&other).unwrap().config;
    made.root("self", 10);
    shake_with(&own, first).unwrap_err();
}

#[test]
fn chains_through_others_are_followed() {
    let made = usual();
    let authority = "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=keyCertSign";
    made.issue("between", "ca", "prime256v1", authority, 10);
    made.issue("leaf", "between", "prime256v1", LEAF, 10);
    let server = options(&made, "server");
    shake(&server, &options(&made, "leaf")).unwrap_err();
    let read = |name| std::fs::read(made.crt(name)).unwrap();
    let chain = [read("leaf"), read("between")].concat();
    std::fs::write(made.crt("leaf"), chain).unwrap();
    shake(&server, &options(&made, "leaf")).unwrap();
    shake(&options(&made, "leaf"), &options(&made, "client")).unwrap();
}

#[test]
fn ciphers_and_their_order_are_the_servers_where_it_says_so() {
    let made = usual();
    let list = "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-CHACHA20-POLY1305";
    for prefer_server_ciphers in [true, false] {
        let server = Options {
            protocols: Some("TLSv1.2".into()),
            ciphers: Some(list.into()),
            prefer_server_ciphers,
            ..options(&made, "server")
        };
        let outcome = shake(&server, &options(&made, "client")).unwrap();
        // A client prefers the other one.
        let is_first = outcome.cipher.contains("AES_128");
        assert_eq!(is_first, prefer_server_ciphers, "{}", outcome.cipher);
    }
    let server = Options {
        ciphers: Some("ECDHE-ECDSA-AES256-GCM-SHA384".into()),
        protocols: Some("TLSv1.2".into()),
        ..options(&made, "server")
    };
    // The key is one of RSA.
    shake(&server, &options(&made, "client")).unwrap_err();
}

#[test]
fn sessions_are_resumed_as_long_as_the_configuration_is_the_same() {
    let made = usual();
    for protocols in ["TLSv1.2", "TLSv1.3"] {
        let server = Options {
            protocols: Some(protocols.into()),
            session_caching: true,
            session_cache_timeout_s: 300,
            ..options(&made, "server")
        };
        let client = client_config(&options(&made, "client")).unwrap().config;
        let mut client = (*client).clone();
        client.resumption = Resumption::in_memory_sessions(8);
        let client = Arc::new(client);
        let config = server_config(&server).unwrap().config;
        let kinds = |config: &Arc<rustls::ServerConfig>| -> Outcome {
            peers::shake_configs(Arc::clone(config), Arc::clone(&client)).unwrap()
        };
        assert_eq!(kinds(&config).kind, HandshakeKind::Full);
        assert_eq!(kinds(&config).kind, HandshakeKind::Resumed);
        let anew = server_config(&server).unwrap().config;
        assert_eq!(kinds(&anew).kind, HandshakeKind::Full);
        let uncached = Options {
            session_caching: false,
            ..server
        };
        let uncached = server_config(&uncached).unwrap().config;
        for _ in 0..2 {
            assert_eq!(kinds(&uncached).kind, HandshakeKind::Full);
        }
    }
}
