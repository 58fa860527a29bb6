//! Sign-in with a browser on this machine, which is redirected to a port of this process (RFC 8252
//! §7.3).

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use cynosure_engine::format_duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use url::Url;

use super::authorization::AuthorizationRequest;
use super::client::OAuthClient;
use super::error::OAuthError;
use super::grant::TokenGrant;

/// Time for the user to sign in and consent.
const SIGN_IN_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Time for one request to arrive, and for its response to be sent.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum bytes of a request head. Codes have some hundred bytes, cookies of other programs on
/// this host some kilobytes.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Maximum number of open connections. Browsers open several, and use one.
const CONNECTIONS_MAX: usize = 16;

const SUCCESS_PAGE: &str = "The sign-in has been passed on to cynosure. You can close this window.";
const FAILURE_PAGE: &str = "The sign-in failed. The terminal shows the reason.";
const NOT_FOUND_PAGE: &str = "Nothing is here.";

/// Request of a browser.
#[derive(Debug)]
struct BrowserRequest {
    stream: TcpStream,
    /// Path and query.
    target: String,
}

/// Signs in with a browser: `show_url` gets the address to open in it.
///
/// # Errors
/// The error in the redirect, or that of the token endpoint. Transient if there is no redirect
/// within five minutes.
pub async fn sign_in_by_browser(
    client: &OAuthClient,
    account: &str,
    show_url: impl FnOnce(&Url),
) -> Result<TokenGrant, OAuthError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.map_err(|error| cannot_listen(&error))?;
    let port = listener.local_addr().map_err(|error| cannot_listen(&error))?.port();
    let request = AuthorizationRequest::new(client, account, format!("http://127.0.0.1:{port}/"))?;
    show_url(request.url());
    let Ok(redirect) = timeout(SIGN_IN_TIMEOUT, receive_redirect(&listener, &request)).await else {
        let wait = format_duration(SIGN_IN_TIMEOUT);
        let message = format!("the browser has not returned within {wait}; sign in again");
        return Err(OAuthError::Transient { message, retry_after: None });
    };
    let BrowserRequest { stream, target } = redirect.map_err(|error| cannot_listen(&error))?;
    // A second redirect is refused, because a code is exchanged once.
    drop(listener);
    let result = request.exchange(client, &target).await;
    let page = if result.is_ok() { SUCCESS_PAGE } else { FAILURE_PAGE };
    respond(stream, "200 OK", page).await;
    result
}

/// Waits for the redirect. All other requests are answered with 404, also a redirect with another
/// `state`: any page in the browser can send one, which must not end the sign-in.
async fn receive_redirect(
    listener: &TcpListener,
    authorization: &AuthorizationRequest,
) -> io::Result<BrowserRequest> {
    // Browsers also open connections without using them, so none may block another.
    let mut requests = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if requests.len() < CONNECTIONS_MAX => {
                let (stream, _address) = accepted?;
                requests.spawn(read_request(stream));
            }
            Some(read) = requests.join_next() => {
                let Ok(Some(request)) = read else { continue };
                if is_redirect(&request.target, authorization) {
                    return Ok(request);
                }
                respond(request.stream, "404 Not Found", NOT_FOUND_PAGE).await;
            }
        }
    }
}

/// Reads a request. `None` if none arrives in time, or if it is not a GET of bounded size.
async fn read_request(mut stream: TcpStream) -> Option<BrowserRequest> {
    let head = timeout(EXCHANGE_TIMEOUT, read_head(&mut stream)).await.ok()??;
    let target = parse_target(&head)?;
    Some(BrowserRequest { stream, target })
}

async fn read_head(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::<u8>::new();
    let mut chunk = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = stream.read(&mut chunk).await.ok().filter(|count| *count > 0)?;
        head.extend_from_slice(chunk.get(..count)?);
        if HEAD_BYTES_MAX < head.len() {
            return None;
        }
    }
    Some(head)
}

/// Returns the target of a head such as `GET /?code=1 HTTP/1.1`.
fn parse_target(head: &[u8]) -> Option<String> {
    let line = str::from_utf8(head.split(|byte| *byte == b'\r').next()?).ok()?;
    let target = line.strip_prefix("GET ")?.split(' ').next()?;
    Some(target.to_owned())
}

/// True for the root with the answer to this request. Browsers also ask for icons.
fn is_redirect(target: &str, authorization: &AuthorizationRequest) -> bool {
    target.starts_with("/?") && authorization.is_answered_by(target)
}

/// Sends a page and closes the connection. A browser that does not take it changes nothing.
async fn respond(mut stream: TcpStream, status: &str, text: &str) {
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>cynosure</title>\
         <p>{text}</p></html>\n"
    );
    let response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\n\
         Content-Length: {}\r\nCache-Control: no-store\r\nReferrer-Policy: no-referrer\r\n\
         Connection: close\r\n\r\n{page}",
        page.len()
    );
    let send = async {
        stream.write_all(response.as_bytes()).await?;
        stream.shutdown().await
    };
    timeout(EXCHANGE_TIMEOUT, send).await.ok();
}

fn cannot_listen(error: &io::Error) -> OAuthError {
    let message = format!("cannot listen on 127.0.0.1: {error}; sign in with --paste instead");
    OAuthError::Transient { message, retry_after: None }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::oauth::client::OAuthEndpoints;

    /// Client of a server that no test reaches.
    fn client() -> OAuthClient {
        let endpoints = OAuthEndpoints {
            authorize_url: Some(Url::parse("http://127.0.0.1:1/authorize").unwrap()),
            token_url: Url::parse("http://127.0.0.1:1/token").unwrap(),
            device_url: None,
        };
        OAuthClient::new("work", "client".to_owned(), None, endpoints, Vec::new()).unwrap()
    }

    fn query_value(url: &Url, name: &str) -> String {
        url.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned()
    }

    /// Sends bytes to the address of the redirect, and returns the response.
    async fn exchange(url: &Url, bytes: &str) -> String {
        let port = Url::parse(&query_value(url, "redirect_uri")).unwrap().port().unwrap();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        // A server that closes early is what some of the tests are about.
        stream.write_all(bytes.as_bytes()).await.ok();
        let mut response = Vec::new();
        stream.read_to_end(&mut response).await.ok();
        String::from_utf8(response).unwrap()
    }

    /// Runs a sign-in beside a browser, which gets the address to open.
    async fn sign_in<T>(
        browser: impl AsyncFnOnce(Url) -> T,
    ) -> (Result<TokenGrant, OAuthError>, T) {
        let client = client();
        let (sender, receiver) = oneshot::channel();
        let sign_in = sign_in_by_browser(&client, "me@example.com", |url| {
            sender.send(url.clone()).unwrap();
        });
        let browser = async { browser(receiver.await.unwrap()).await };
        tokio::join!(sign_in, browser)
    }

    #[tokio::test]
    async fn only_the_redirect_ends_the_wait() {
        let (result, responses) = sign_in(async |url| {
            let mut responses = Vec::new();
            let others = [
                "/favicon.ico",
                "/",
                "/?x=1",
                "/other?code=1",
                "/?code=1",
                "/?code=1&state=other",
                "/?error=access_denied&state=other",
            ];
            for target in others {
                let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
                responses.push(exchange(&url, &request).await);
            }
            let state = query_value(&url, "state");
            let request =
                format!("GET /?error=access_denied&state={state} HTTP/1.1\r\nHost: x\r\n\r\n");
            responses.push(exchange(&url, &request).await);
            responses
        })
        .await;

        let (last, others) = responses.split_last().unwrap();
        assert!(others.iter().all(|response| response.starts_with("HTTP/1.1 404 ")), "{others:?}");
        assert!(last.starts_with("HTTP/1.1 200 OK") && last.contains(FAILURE_PAGE), "{last}");
        let OAuthError::Denied(denial) = result.unwrap_err() else { panic!("it was denied") };
        assert_eq!(denial.error, "access_denied");
    }

    #[tokio::test]
    async fn idle_and_bad_connections_block_nothing() {
        let (result, bad) = sign_in(async |url| {
            let port = Url::parse(&query_value(&url, "redirect_uri")).unwrap().port().unwrap();
            let _idle = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
            let too_long = format!("GET /?code={} HTTP/1.1\r\n\r\n", "x".repeat(HEAD_BYTES_MAX));
            let bad = [
                exchange(&url, &too_long).await,
                exchange(&url, "POST /?code=x HTTP/1.1\r\n\r\n").await,
                exchange(&url, "\r\n\r\n").await,
            ];
            exchange(&url, "GET /?error=access_denied HTTP/1.1\r\n\r\n").await;
            bad
        })
        .await;

        assert_eq!(bad, ["", "", ""]);
        let error = result.unwrap_err();
        assert!(matches!(error, OAuthError::Denied(_)), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_browser_that_does_not_return_ends_the_sign_in() {
        let (result, ()) = sign_in(async |_url| ()).await;

        let error = result.unwrap_err();
        assert!(error.to_string().contains("not returned within 5 min"), "{error}");
    }
}
