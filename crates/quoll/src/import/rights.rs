//! What Mosquitto's `acl_file` allows one user, as a list of our own. What a list cannot say (`deny`, `%c`) is left out, and
//! said: nobody gets more than he had.

use quoll_fleet::access_list::Access;

/// A user's rights, and what of them could not be taken over.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Rights {
    pub(crate) access: Access,
    /// Lines that no list of ours can say.
    pub(crate) dropped: Vec<String>,
}

/// The rights of `user` by this file: his own section, and the patterns filled in with his name. The file has been read
/// by Mosquitto's own rules before; here it is only sorted.
pub(crate) fn of(text: &str, user: &str) -> Rights {
    let mut rights = Rights::default();
    let mut section: Option<&str> = None;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (keyword, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        match keyword {
            "user" => section = Some(rest),
            "topic" if section == Some(user) => rights.add(rest, line),
            "pattern" => match fill(rest, user) {
                Some(filled) => rights.add(&filled, line),
                None => rights.dropped.push(line.to_owned()),
            },
            _ => {}
        }
    }
    rights
}

impl Rights {
    fn add(&mut self, rest: &str, line: &str) {
        let (word, filter) = match rest.split_once(char::is_whitespace) {
            Some((word, filter)) if matches!(word, "read" | "write" | "readwrite" | "deny") => {
                (word, filter.trim())
            }
            _ => ("readwrite", rest),
        };
        let filter = filter.to_owned();
        match word {
            "deny" => self.dropped.push(line.to_owned()),
            "read" => self.access.subscribe.push(filter),
            "write" => self.access.publish.push(filter),
            _ => {
                self.access.publish.push(filter.clone());
                self.access.subscribe.push(filter);
            }
        }
    }

    /// Without what a `deny` would have taken away: allowing it would be more than there was.
    pub(crate) fn careful(mut self) -> Self {
        let denied: Vec<String> = self
            .dropped
            .iter()
            .filter_map(|line| {
                line.split_whitespace().nth(2).filter(|_| line.contains(" deny ")).map(str::to_owned)
            })
            .collect();
        let overlaps = |filter: &String| denied.iter().any(|denied| may_meet(filter, denied));
        for list in [&mut self.access.publish, &mut self.access.subscribe] {
            let (gone, kept): (Vec<_>, Vec<_>) = std::mem::take(list).into_iter().partition(overlaps);
            *list = kept;
            self.dropped.extend(gone.into_iter().map(|filter| format!("{filter} (because of a deny)")));
        }
        self
    }
}

/// A pattern with the user's name in it; `None` where it has the client id, which no certificate says.
fn fill(pattern: &str, user: &str) -> Option<String> {
    let levels = pattern.split('/');
    if levels.clone().any(|level| level.ends_with("%c")) {
        return None;
    }
    Some(pattern.replace("%u", user))
}

/// Whether a topic can match both filters; never says no wrongly.
fn may_meet(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('/'), other.split('/'));
    loop {
        match (one.next(), other.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some(a), Some(b)) if a == b || a == "+" || b == "+" => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# all\ntopic read $SYS/#\n\nuser hass\ntopic readwrite cmnd/#\ntopic read tele/#\ntopic stat/+/RESULT\n\
                        user wall\ntopic read tele/#\npattern write stat/%u/#\npattern read cmnd/%c/#\n";

    #[test]
    fn a_users_section_and_patterns_become_a_list() {
        let hass = of(FILE, "hass");
        assert_eq!(hass.access.publish, ["cmnd/#", "stat/+/RESULT", "stat/hass/#"]);
        assert_eq!(hass.access.subscribe, ["cmnd/#", "tele/#", "stat/+/RESULT"]);
        assert_eq!(hass.dropped, ["pattern read cmnd/%c/#"]);
        let nobody = of(FILE, "nobody");
        assert_eq!(
            (nobody.access.publish, nobody.access.subscribe),
            (vec!["stat/nobody/#".to_owned()], vec![])
        );
    }

    #[test]
    fn a_deny_takes_away_what_it_touches_rather_than_nothing() {
        let text = "user hass\ntopic readwrite home/#\ntopic read tele/#\ntopic deny home/lock/#\n";
        let rights = of(text, "hass").careful();
        assert_eq!((rights.access.publish, rights.access.subscribe), (vec![], vec!["tele/#".to_owned()]));
        assert_eq!(rights.dropped.len(), 3, "{:?}", rights.dropped);
        assert!(
            may_meet("a/+/c", "a/b/#")
                && may_meet("#", "x")
                && !may_meet("a/b", "a/c")
                && !may_meet("a", "a/b")
        );
    }
}
