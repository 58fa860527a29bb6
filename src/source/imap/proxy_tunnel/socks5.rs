//! Tunnels through SOCKS proxies, version 5 (RFC 1928), with a login by password (RFC 1929).

use std::net::IpAddr;

use cynosure_engine::{Cause, Failure};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::error::{PROXY_AUTH_REQUIRED, TunnelError};
use crate::source::imap::options::address_of;

const VERSION: u8 = 5;
const LOGIN_VERSION: u8 = 1;

const METHOD_NO_LOGIN: u8 = 0;
const METHOD_PASSWORD: u8 = 2;
const METHOD_NONE_ACCEPTABLE: u8 = 0xff;

const COMMAND_CONNECT: u8 = 1;
const RESERVED: u8 = 0;

const ADDRESS_IPV4: u8 = 1;
const ADDRESS_NAME: u8 = 3;
const ADDRESS_IPV6: u8 = 4;

const STATUS_SUCCEEDED: u8 = 0;

/// Opens a tunnel to a host, whose name the proxy looks up.
pub(super) async fn open_tunnel(
    stream: &mut TcpStream,
    host: &str,
    port: u16,
    login: Option<&(String, SecretString)>,
) -> Result<(), TunnelError> {
    let mut request = vec![VERSION, COMMAND_CONNECT, RESERVED];
    push_address(&mut request, host)?;
    request.extend(port.to_be_bytes());
    let offered: &[u8] = match login {
        Some(_) => &[VERSION, 2, METHOD_NO_LOGIN, METHOD_PASSWORD],
        None => &[VERSION, 1, METHOD_NO_LOGIN],
    };
    stream.write_all(offered).await?;
    let [version, method] = read_array(stream).await?;
    if version != VERSION {
        return Err(not_socks());
    }
    match (method, login) {
        (METHOD_NO_LOGIN, _) => {}
        (METHOD_PASSWORD, Some((username, password))) => {
            log_in(stream, username, password).await?;
        }
        (METHOD_PASSWORD | METHOD_NONE_ACCEPTABLE, _) => {
            return Err(TunnelError::ProxyFault(PROXY_AUTH_REQUIRED.to_owned()));
        }
        _ => return Err(not_socks()),
    }
    stream.write_all(&request).await?;
    let [version, status, _reserved, address_type] = read_array(stream).await?;
    if version != VERSION {
        return Err(not_socks());
    }
    check_status(status, &address_of(host, port))?;
    skip_address(stream, address_type).await
}

async fn log_in(
    stream: &mut TcpStream,
    username: &str,
    password: &SecretString,
) -> Result<(), TunnelError> {
    let mut message = vec![LOGIN_VERSION];
    push_text(&mut message, username)?;
    push_text(&mut message, password.expose_secret())?;
    stream.write_all(&message).await?;
    let [_version, status] = read_array(stream).await?;
    if status == STATUS_SUCCEEDED {
        Ok(())
    } else {
        Err(TunnelError::ProxyFault(PROXY_AUTH_REQUIRED.to_owned()))
    }
}

/// Checks the reply of the proxy (RFC 1928 §6).
fn check_status(status: u8, address: &str) -> Result<(), TunnelError> {
    let unclear = |reason: &str| {
        Err(TunnelError::Unclear(format!("the proxy cannot reach {address}: {reason}")))
    };
    let proxy_fault = |reason: &str| {
        Err(TunnelError::ProxyFault(format!("the proxy cannot reach {address}: {reason}")))
    };
    // The proxy tried the server and reports its result.
    let server_fault = |cause, reason: &str| {
        let message = format!("{reason} {address}, says the proxy");
        Err(TunnelError::ServerFault(Failure::new(cause, message)))
    };
    match status {
        STATUS_SUCCEEDED => Ok(()),
        1 => unclear("general failure"),
        2 => proxy_fault("its rules do not allow the connection"),
        3 => unclear("network unreachable"),
        4 => unclear("host unreachable"),
        5 => server_fault(Cause::Connection, "nothing listens at"),
        6 => server_fault(Cause::Connection, "no answer in time from"),
        7 => proxy_fault("it does not support connections of clients"),
        8 => proxy_fault("it does not support this kind of address"),
        _ => proxy_fault("it gives an unknown reason"),
    }
}

/// Reads the address that the proxy uses, which nothing needs.
async fn skip_address(stream: &mut TcpStream, address_type: u8) -> Result<(), TunnelError> {
    let address_length = match address_type {
        ADDRESS_IPV4 => 4,
        ADDRESS_IPV6 => 16,
        ADDRESS_NAME => usize::from(stream.read_u8().await?),
        _ => return Err(not_socks()),
    };
    let mut address_and_port = vec![0; address_length + size_of::<u16>()];
    stream.read_exact(&mut address_and_port).await?;
    Ok(())
}

async fn read_array<const N: usize>(stream: &mut TcpStream) -> Result<[u8; N], TunnelError> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

fn push_address(request: &mut Vec<u8>, host: &str) -> Result<(), TunnelError> {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => {
            request.push(ADDRESS_IPV4);
            request.extend(address.octets());
            Ok(())
        }
        Ok(IpAddr::V6(address)) => {
            request.push(ADDRESS_IPV6);
            request.extend(address.octets());
            Ok(())
        }
        Err(_name) => {
            request.push(ADDRESS_NAME);
            push_text(request, host)
        }
    }
}

/// Appends a text with its length, for which there is one byte.
fn push_text(message: &mut Vec<u8>, text: &str) -> Result<(), TunnelError> {
    let length = u8::try_from(text.len()).map_err(|_too_long| {
        let message = "a host name, user name or password is too long for a SOCKS proxy";
        TunnelError::ProxyFault(message.to_owned())
    })?;
    message.push(length);
    message.extend(text.bytes());
    Ok(())
}

fn not_socks() -> TunnelError {
    TunnelError::ProxyFault("the proxy does not speak SOCKS version 5".to_owned())
}
