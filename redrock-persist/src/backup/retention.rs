//! Which sets are too many (`backup-keep`): a pure decision.

use super::list::ListedSet;

/// Names of the sets to remove, oldest first: of those that are named by the time, all but the
/// newest `keep`. Sets that an operator has named, and folders that can't be read, stay. With
/// `keep` 0 all stay.
pub fn surplus(sets: &[ListedSet], keep: usize) -> Vec<String> {
    let mut counted: Vec<&ListedSet> = sets
        .iter()
        .filter(|set| set.manifest.is_ok() && is_named_by_time(&set.name))
        .collect();
    counted.sort_by_key(|set| set.made_unix_ms());
    let too_many = match keep {
        0 => 0,
        keep => counted.len().saturating_sub(keep),
    };
    let names = counted.iter().take(too_many);
    names.map(|set| set.name.clone()).collect()
}

/// `20261121T140305.250Z`
fn is_named_by_time(name: &str) -> bool {
    let pattern = "dddddddd\u{54}dddddd.ddd\u{5a}";
    name.len() == pattern.len()
        && name
            .chars()
            .zip(pattern.chars())
            .all(|(found, wanted)| match wanted {
                'd' => found.is_ascii_digit(),
                wanted => found == wanted,
            })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::set::{SetContent, SetManifest};
    use crate::moment;

    fn set(name: &str, made_unix_ms: u64) -> ListedSet {
        ListedSet {
            name: name.into(),
            path: name.into(),
            manifest: Ok(SetManifest {
                made_unix_ms,
                begins_unix_ms: 0,
                covered_unix_ms: 0,
                content: SetContent::Log,
                stream: None,
                files: Vec::new(),
            }),
            unique_bytes: 0,
        }
    }

    #[test]
    fn the_newest_are_kept_and_what_people_named_too() {
        let names: Vec<String> = (1..=4)
            .map(|day| moment::file_name(day * 86_400_000))
            .collect();
        let mut sets: Vec<ListedSet> = names
            .iter()
            .zip(1..)
            .map(|(name, made)| set(name, made))
            .collect();
        sets.push(set("before-upgrade", 0));
        let mut broken = set(&moment::file_name(1), 0);
        broken.manifest = Err("damaged".into());
        sets.push(broken);
        sets.reverse();
        assert_eq!(surplus(&sets, 2), names[..2]);
        assert!(surplus(&sets, 4).is_empty());
        assert!(surplus(&sets, 0).is_empty());
        assert_eq!(surplus(&sets, 1), names[..3]);
    }

    #[test]
    fn only_names_that_we_make_count_as_such() {
        assert!(is_named_by_time(&moment::file_name(1_795_269_785_250)));
        for name in ["20261121T140305.250", "nightly", "20261121X140305.250Z"] {
            assert!(!is_named_by_time(name), "{name}");
        }
    }
}
