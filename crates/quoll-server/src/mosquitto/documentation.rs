//! The page about the options, made from their rows: what is read here cannot differ from what is said there.

use std::fmt::Write as _;

use super::options::{Answer, Kind, Opt, Relevance, Repeat};
use super::table::OPTIONS;

const HEAD: &str = "# Options of mosquitto.conf

What `quoll broker -c mosquitto.conf` makes of each option that Mosquitto 2.1 knows. Made from the table that the program
reads with; `QUOLL_BLESS=1 cargo test -p quoll-server mosquitto` writes it anew.

A name that is not here is refused with file, line and the nearest name that is. Faults are told all at once. Values are read
as Mosquitto reads them: a `#` begins a comment only as the first character of a line, a text goes on to the end of its line,
numbers may be written as in C, and what follows a complete value is left unread, with a warning unless it is a comment.
*Read* means that the value is checked, understood and handed to the broker; what is recognised and left aside says so on
every start.
";

/// The page, in Markdown.
#[must_use]
pub fn documentation() -> String {
    let mut page = HEAD.to_owned();
    let counts = [Relevance::Must, Relevance::Should, Relevance::Later, Relevance::No]
        .map(|relevance| OPTIONS.iter().filter(|option| option.relevance == relevance).count());
    let [must, should, later, no] = counts;
    let mut line = |text: std::fmt::Arguments<'_>| page.write_fmt(text).expect("a string takes all text");
    line(format_args!(
        "\n{} options: {must} that a drop-in must obey, {should} that it should, {later} that can wait, {no} that are \
         only recognised.\n\n| option | where | value | default | meaning | here |\n|---|---|---|---|---|---|\n",
        OPTIONS.len()
    ));
    for option in OPTIONS {
        line(format_args!(
            "| `{}` | {} | {} | {} | {} | {} |\n",
            option.name,
            option.scope.words(),
            value(option),
            option.default,
            option.meaning.replace('|', "\\|"),
            answer(option.answer),
        ));
    }
    page
}

fn value(option: &Opt) -> String {
    let form = match option.kind {
        Kind::Flag => "true, false".to_owned(),
        Kind::Number { min, max, .. } => {
            let highest = if max >= i64::from(i32::MAX) { String::new() } else { format!(" to {max}") };
            if min < 0 { "number".to_owned() } else { format!("number, {min}{}", or_more(&highest)) }
        }
        Kind::Text { max: 65_535 } => "text".to_owned(),
        Kind::Text { max } => format!("text, {max} bytes"),
        Kind::Secret => "text, never shown".to_owned(),
        Kind::Word(words) => words.join(", "),
        Kind::Name => "word".to_owned(),
        Kind::NameAndPath => "NAME PATH".to_owned(),
        Kind::Listener => "PORT [ADDRESS], 0 PATH".to_owned(),
        Kind::Addresses => "HOST[:PORT] ...".to_owned(),
        Kind::Topic => "PATTERN [out\\|in\\|both [QOS [LOCAL [REMOTE]]]]".to_owned(),
        Kind::Period => "number with s, h, d, w, m, y".to_owned(),
        Kind::Restart => "BASE [CAP [STABLE]]".to_owned(),
        Kind::TcpKeepalive => "IDLE INTERVAL COUNT".to_owned(),
        Kind::Versions => "3, 4, 5".to_owned(),
        Kind::LogDestination => "stderr, stdout, syslog, topic, none, file PATH".to_owned(),
        Kind::Anything => "anything".to_owned(),
    };
    match option.repeat {
        Repeat::Once => format!("{form}; once"),
        Repeat::Last | Repeat::Many => form,
    }
}

fn or_more(highest: &str) -> String {
    if highest.is_empty() { " or more".to_owned() } else { highest.to_owned() }
}

fn answer(answer: Answer) -> String {
    match answer {
        Answer::Read => "read".to_owned(),
        Answer::Ignored(why) => format!("ignored with a warning: {why}"),
        Answer::IgnoredIf(value, why) => format!("`{value}` is ignored with a warning: {why}"),
        Answer::Refused(why) => format!("refused: {why}"),
        Answer::RefusedIf(value, why) => format!("`{value}` is refused: {why}"),
    }
}
