//! Calls with a PIN or a recovery key: written and read without a copy that is not wiped.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{CallError, Method, parse_method};
use crate::{INTERFACE, Pin};

/// Parameters of the calls with secrets; each has those that it needs.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Secrets {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) zone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<Pin>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pin: Option<Pin>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) new: Option<Pin>,
}

/// The name and parameters of a call with a secret.
pub(super) fn secrets(method: &Method) -> Option<(&'static str, Secrets)> {
    let none = Secrets::default();
    let some = |pin: &Pin| Some(pin.clone());
    Some(match method {
        Method::Open { zone, pin } => {
            ("org.bulkhead.Zones.Open", Secrets { zone: Some(zone.clone()), pin: some(pin), ..none })
        }
        Method::Recover { zone, key, pin } => (
            "org.bulkhead.Zones.Recover",
            Secrets { zone: Some(zone.clone()), key: some(key), pin: some(pin), ..none },
        ),
        Method::ChangePin { zone, pin, new } => (
            "org.bulkhead.Zones.ChangePin",
            Secrets { zone: Some(zone.clone()), pin: some(pin), new: some(new), ..none },
        ),
        Method::UnlockScreen(pin) => ("org.bulkhead.Zones.UnlockScreen", Secrets { pin: some(pin), ..none }),
        Method::ChangeScreenPin { pin, new } => {
            ("org.bulkhead.Zones.ChangeScreenPin", Secrets { pin: some(pin), new: some(new), ..none })
        }
        Method::RecoverScreen { key, pin } => {
            ("org.bulkhead.Zones.RecoverScreen", Secrets { key: some(key), pin: some(pin), ..none })
        }
        Method::NoteRecoveryKey(key) => {
            ("org.bulkhead.Zones.NoteRecoveryKey", Secrets { key: some(key), ..none })
        }
        Method::Status
        | Method::Monitor
        | Method::Start(_)
        | Method::Lock(_)
        | Method::LockScreen
        | Method::NewRecoveryKey
        | Method::Stop(_)
        | Method::Kill(_)
        | Method::Restart(_)
        | Method::Pause(_)
        | Method::Resume(_)
        | Method::RunCheck { .. }
        | Method::Audit { .. }
        | Method::PowerOff
        | Method::GetInfo
        | Method::GetInterfaceDescription(_) => return None,
    })
}

/// The calls with a secret.
const SECRET: [&str; 7] =
    ["Open", "Recover", "ChangePin", "UnlockScreen", "ChangeScreenPin", "RecoverScreen", "NoteRecoveryKey"];

/// Reads a call by its name.
pub(super) fn parse_call(name: &str, parameters: Option<&RawValue>) -> Result<Method, CallError> {
    let interface_method = name.strip_prefix(INTERFACE).and_then(|rest| rest.strip_prefix('.'));
    let Some(method) = interface_method.filter(|method| SECRET.contains(method)) else {
        let parameters = parameters.map(|raw| serde_json::from_str::<Value>(raw.get())).transpose();
        let parameters = parameters.map_err(|_none| CallError::InvalidParameter("parameters".to_owned()))?;
        return parse_method(name, parameters.as_ref());
    };
    let missing = |key: &str| CallError::InvalidParameter(key.to_owned());
    let Secrets { zone, key, pin, new } = serde_json::from_str(parameters.map_or("{}", RawValue::get))
        .map_err(|_unfit| missing("parameters"))?;
    let zone = || zone.ok_or_else(|| missing("zone"));
    let key = || key.ok_or_else(|| missing("key"));
    let pin = || pin.ok_or_else(|| missing("pin"));
    let new = || new.ok_or_else(|| missing("new"));
    Ok(match method {
        "Open" => Method::Open { zone: zone()?, pin: pin()? },
        "Recover" => Method::Recover { zone: zone()?, key: key()?, pin: pin()? },
        "ChangePin" => Method::ChangePin { zone: zone()?, pin: pin()?, new: new()? },
        "UnlockScreen" => Method::UnlockScreen(pin()?),
        "ChangeScreenPin" => Method::ChangeScreenPin { pin: pin()?, new: new()? },
        "RecoverScreen" => Method::RecoverScreen { key: key()?, pin: pin()? },
        _ => Method::NoteRecoveryKey(key()?),
    })
}
