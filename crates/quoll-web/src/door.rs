//! Who may ask, and how every answer is sealed. There is no password yet, so the dashboard trusts exactly what can
//! only come from a browser or a tool on this machine that was pointed here on purpose.
//!
//! Against: other machines (the socket is bound to loopback, see `serve`), DNS rebinding (a hostile name that resolves
//! to 127.0.0.1 arrives with its own name in Host), other web sites' scripts and pictures (Fetch metadata), framing,
//! injected script (content security policy).

use axum::extract::Request;
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, Method, Uri};
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::timeout;

use crate::limits;
use crate::problem::Problem;

/// The end of an address that makes the node do something: it asks a device.
const ACT: &str = "/diagnosis";

/// Checks a request, has it answered in bounded time, and seals the answer.
pub(crate) async fn attend(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let is_act = path.ends_with(ACT);
    let patience = if is_act { limits::DIAGNOSIS_TIME } else { limits::ANSWER_TIME };
    let answer = match admit(&request, is_act) {
        Ok(()) => timeout(patience, next.run(request)).await.map_err(|_| Problem::NoAnswer(patience)),
        Err(refusal) => Err(refusal),
    };
    let mut response = match answer {
        Ok(response) => response,
        Err(problem) => {
            tracing::debug!(%path, status = problem.status().as_u16(), %problem, "request refused");
            match problem {
                Problem::NotThisMachine(_) if !path.starts_with("/api/") => problem.into_text(),
                problem => problem.into_response_at(&path),
            }
        }
    };
    seal(response.headers_mut());
    response
}

fn admit(request: &Request, is_act: bool) -> Result<(), Problem> {
    check_host(request.uri(), request.headers())?;
    check_site(request.headers(), is_act)?;
    match *request.method() {
        Method::GET | Method::HEAD => Ok(()),
        ref other => Err(Problem::OnlyShows(other.to_string())),
    }
}

/// Every host the request names must be this machine by one of its three fixed names; any port will do, because an SSH
/// tunnel changes it. RFC 9112 §3.2: one Host field, and an absolute request target overrides it.
fn check_host(uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let refuse = |host: &str| Err(Problem::NotThisMachine(host.to_owned()));
    if let Some(authority) = uri.authority()
        && !is_this_machine(authority.as_str())
    {
        return refuse(authority.as_str());
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => match host.to_str() {
            Ok(host) if is_this_machine(host) => Ok(()),
            Ok(host) => refuse(host),
            Err(_) => refuse("(not text)"),
        },
        (Some(_), Some(_)) => refuse("(several)"),
        (None, _) => refuse("(none named)"),
    }
}

fn is_this_machine(authority: &str) -> bool {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let named = ["localhost", "127.0.0.1", "[::1]"].iter().any(|name| host.eq_ignore_ascii_case(name));
    named && port.is_none_or(|port| port.bytes().all(|b| b.is_ascii_digit()) && port.len() <= 5)
}

/// A link on another site may lead here; its scripts, pictures and frames may not (W3C Fetch Metadata). Tools and old
/// browsers send nothing, and are not driven by other sites. What makes the node do something is to be asked for here: not
/// even a link on another site leads to it.
fn check_site(headers: &HeaderMap, is_act: bool) -> Result<(), Problem> {
    let says = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match says("sec-fetch-site") {
        None | Some("same-origin" | "none") => Ok(()),
        Some(_)
            if !is_act
                && says("sec-fetch-mode") == Some("navigate")
                && says("sec-fetch-dest") == Some("document") =>
        {
            Ok(())
        }
        Some(_) => Err(Problem::OtherSite),
    }
}

/// Headers of every answer, refusals included. What says nothing about caching is not cached.
fn seal(headers: &mut HeaderMap) {
    const SEALS: [(HeaderName, &str); 6] = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    for (name, value) in SEALS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_fixed_names_of_this_machine_pass() {
        for (host, expected) in [
            ("localhost", true),
            ("LocalHost:8080", true),
            ("127.0.0.1:1", true),
            ("[::1]", true),
            ("[::1]:8080", true),
            ("localhost:", true),
            ("", false),
            ("::1", false),
            ("localhost.", false),
            ("localhost:80:80", false),
            ("localhost:http", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example:8080", false),
            ("127.0.0.2", false),
            ("192.0.2.7", false),
            ("evil.example@localhost", false),
            ("localhost@evil.example", false),
            ("[::1]x", false),
        ] {
            assert_eq!(is_this_machine(host), expected, "{host:?}");
        }
    }

    #[test]
    fn an_absolute_target_and_a_second_host_are_checked_too() {
        let headers = |hosts: &[&str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, HeaderValue::from_str(host).unwrap());
            }
            headers
        };
        for (uri, hosts, expected) in [
            ("/", &["localhost"][..], true),
            ("http://localhost/", &["localhost"], true),
            ("http://evil.example/", &["localhost"], false),
            ("/", &["localhost", "localhost"], false),
            ("/", &[], false),
        ] {
            let answer = check_host(&Uri::from_static(uri), &headers(hosts));
            assert_eq!(answer.is_ok(), expected, "{uri} {hosts:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_does_not_answer_is_given_up() {
        use hyper::service::Service;
        let silent =
            axum::Router::new().fallback(std::future::pending::<()>).layer(axum::middleware::from_fn(attend));
        let door = hyper_util::service::TowerToHyperService::new(silent);
        for (path, media_type) in
            [("/", "text/html; charset=utf-8"), ("/api/devices", "application/problem+json")]
        {
            let request = Request::builder().uri(path).header("host", "localhost");
            let answer = door.call(request.body(axum::body::Body::empty()).unwrap()).await.unwrap();
            assert_eq!(answer.status(), 503, "{path}");
            assert_eq!(answer.headers()["content-type"], media_type);
            assert_eq!(answer.headers()["retry-after"], "10");
        }
    }

    #[test]
    fn other_sites_may_link_but_not_embed() {
        for (site, mode, dest, expected) in [
            ("none", "navigate", "document", true),
            ("same-origin", "cors", "empty", true),
            ("cross-site", "navigate", "document", true),
            ("cross-site", "navigate", "iframe", false),
            ("cross-site", "no-cors", "image", false),
            ("same-site", "cors", "empty", false),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in
                [("sec-fetch-site", site), ("sec-fetch-mode", mode), ("sec-fetch-dest", dest)]
            {
                headers.insert(name, HeaderValue::from_static(value));
            }
            assert_eq!(check_site(&headers, false).is_ok(), expected, "{site} {mode} {dest}");
            let own = matches!(site, "same-origin" | "none");
            assert_eq!(check_site(&headers, true).is_ok(), own, "an act: {site} {mode} {dest}");
        }
    }
}
