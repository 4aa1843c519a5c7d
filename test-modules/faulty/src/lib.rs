//! A PKCS#11 module that forwards to a real one and fails as a control file says, for tests of what
//! happens when an HSM breaks. How to use it: `test-modules/README.md`.
//!
//! Every function that tapfer calls goes through [`fault`]; the others of PKCS#11 2.40 are the real
//! module's own.

#![allow(non_snake_case, reason = "the names are those of PKCS#11")]

mod control;

use std::ffi::c_void;
use std::ptr;
use std::sync::OnceLock;

use cryptoki_sys::*;

use control::{Fault, fault};

/// The real module, loaded at the first call and never unloaded.
struct Real {
    functions: CK_FUNCTION_LIST,
    _library: Pkcs11,
}

static REAL: OnceLock<Option<Real>> = OnceLock::new();

fn real() -> Option<&'static CK_FUNCTION_LIST> {
    REAL.get_or_init(load).as_ref().map(|real| &real.functions)
}

fn load() -> Option<Real> {
    let path = std::env::var_os("FAULTY_MODULE")?;
    // SAFETY: a test names the module it trusts.
    let library = unsafe { Pkcs11::new(path) }.ok()?;
    let get_function_list = *library.C_GetFunctionList.as_ref().ok()?;
    let mut list: *mut CK_FUNCTION_LIST = ptr::null_mut();
    // SAFETY: `list` can be written to.
    let answer = unsafe { get_function_list(&raw mut list) };
    if answer != CKR_OK || list.is_null() {
        return None;
    }
    // SAFETY: the module's own list, which stays as long as its library.
    let functions = unsafe { list.read_unaligned() };
    Some(Real { functions, _library: library })
}

/// Makes a function that fails if the control file says so, and calls the real one otherwise.
macro_rules! functions {
    ($module:ident: $($name:ident($($argument:ident: $type:ty),* $(,)?);)*) => {
        mod $module {
            use super::*;
            $(pub(super) unsafe extern "C" fn $name($($argument: $type),*) -> CK_RV {
                match fault(stringify!($name)) {
                    Fault::None => {}
                    Fault::Answer(code) => return code,
                    Fault::Hang => loop { std::thread::park() },
                    Fault::Abort => std::process::abort(),
                }
                match real().and_then(|functions| functions.$name) {
                    // SAFETY: the caller's arguments, handed on as they came.
                    Some(function) => unsafe { function($($argument),*) },
                    None => CKR_FUNCTION_NOT_SUPPORTED,
                }
            })*
        }
    };
}

macro_rules! forward {
    ($($name:ident $arguments:tt;)*) => {
        functions! { forwarded: $($name $arguments;)* }

        /// The real module's list with those functions in front.
        fn list() -> Option<CK_FUNCTION_LIST> {
            let mut list = *real()?;
            list.C_GetFunctionList = Some(C_GetFunctionList);
            $(list.$name = Some(forwarded::$name);)*
            list.C_GetTokenInfo = Some(C_GetTokenInfo);
            list.C_Login = Some(C_Login);
            list.C_CreateObject = Some(C_CreateObject);
            Some(list)
        }
    };
}

functions! { answering:
    C_GetTokenInfo(slot: CK_SLOT_ID, info: *mut CK_TOKEN_INFO);
    C_Login(session: CK_SESSION_HANDLE, user: CK_USER_TYPE, pin: *mut CK_UTF8CHAR, length: CK_ULONG);
    C_CreateObject(
        session: CK_SESSION_HANDLE,
        template: *mut CK_ATTRIBUTE,
        count: CK_ULONG,
        object: *mut CK_OBJECT_HANDLE,
    );
}

forward! {
    C_Initialize(arguments: *mut c_void);
    C_Finalize(reserved: *mut c_void);
    C_GetInfo(info: *mut CK_INFO);
    C_GetSlotList(present: CK_BBOOL, slots: *mut CK_SLOT_ID, count: *mut CK_ULONG);
    C_GetSlotInfo(slot: CK_SLOT_ID, info: *mut CK_SLOT_INFO);
    C_GetMechanismList(slot: CK_SLOT_ID, list: *mut CK_MECHANISM_TYPE, count: *mut CK_ULONG);
    C_InitToken(slot: CK_SLOT_ID, pin: *mut CK_UTF8CHAR, length: CK_ULONG, label: *mut CK_UTF8CHAR);
    C_InitPIN(session: CK_SESSION_HANDLE, pin: *mut CK_UTF8CHAR, length: CK_ULONG);
    C_OpenSession(
        slot: CK_SLOT_ID,
        flags: CK_FLAGS,
        application: *mut c_void,
        notify: CK_NOTIFY,
        session: *mut CK_SESSION_HANDLE,
    );
    C_CloseSession(session: CK_SESSION_HANDLE);
    C_CloseAllSessions(slot: CK_SLOT_ID);
    C_GetSessionInfo(session: CK_SESSION_HANDLE, info: *mut CK_SESSION_INFO);
    C_Logout(session: CK_SESSION_HANDLE);
    C_DestroyObject(session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE);
    C_GetAttributeValue(
        session: CK_SESSION_HANDLE,
        object: CK_OBJECT_HANDLE,
        template: *mut CK_ATTRIBUTE,
        count: CK_ULONG,
    );
    C_FindObjectsInit(session: CK_SESSION_HANDLE, template: *mut CK_ATTRIBUTE, count: CK_ULONG);
    C_FindObjects(
        session: CK_SESSION_HANDLE,
        objects: *mut CK_OBJECT_HANDLE,
        room: CK_ULONG,
        count: *mut CK_ULONG,
    );
    C_FindObjectsFinal(session: CK_SESSION_HANDLE);
    C_EncryptInit(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE);
    C_Encrypt(
        session: CK_SESSION_HANDLE,
        data: *mut CK_BYTE,
        length: CK_ULONG,
        out: *mut CK_BYTE,
        written: *mut CK_ULONG,
    );
    C_SignInit(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE);
    C_Sign(
        session: CK_SESSION_HANDLE,
        data: *mut CK_BYTE,
        length: CK_ULONG,
        out: *mut CK_BYTE,
        written: *mut CK_ULONG,
    );
    C_GenerateKey(
        session: CK_SESSION_HANDLE,
        mechanism: *mut CK_MECHANISM,
        template: *mut CK_ATTRIBUTE,
        count: CK_ULONG,
        key: *mut CK_OBJECT_HANDLE,
    );
    C_GenerateKeyPair(
        session: CK_SESSION_HANDLE,
        mechanism: *mut CK_MECHANISM,
        public: *mut CK_ATTRIBUTE,
        public_count: CK_ULONG,
        private: *mut CK_ATTRIBUTE,
        private_count: CK_ULONG,
        public_key: *mut CK_OBJECT_HANDLE,
        private_key: *mut CK_OBJECT_HANDLE,
    );
    C_WrapKey(
        session: CK_SESSION_HANDLE,
        mechanism: *mut CK_MECHANISM,
        wrapping: CK_OBJECT_HANDLE,
        key: CK_OBJECT_HANDLE,
        out: *mut CK_BYTE,
        written: *mut CK_ULONG,
    );
    C_UnwrapKey(
        session: CK_SESSION_HANDLE,
        mechanism: *mut CK_MECHANISM,
        unwrapping: CK_OBJECT_HANDLE,
        wrapped: *mut CK_BYTE,
        length: CK_ULONG,
        template: *mut CK_ATTRIBUTE,
        count: CK_ULONG,
        key: *mut CK_OBJECT_HANDLE,
    );
    C_DeriveKey(
        session: CK_SESSION_HANDLE,
        mechanism: *mut CK_MECHANISM,
        base: CK_OBJECT_HANDLE,
        template: *mut CK_ATTRIBUTE,
        count: CK_ULONG,
        key: *mut CK_OBJECT_HANDLE,
    );
    C_GenerateRandom(session: CK_SESSION_HANDLE, out: *mut CK_BYTE, length: CK_ULONG);
}

/// Whether the token is to seem one that asks for no PIN, as those are whose keys an HSM protects by itself.
fn is_without_login() -> bool {
    std::env::var_os("FAULTY_WITHOUT_LOGIN").is_some()
}

unsafe extern "C" fn C_GetTokenInfo(slot: CK_SLOT_ID, info: *mut CK_TOKEN_INFO) -> CK_RV {
    // SAFETY: the caller's arguments, handed on as they came.
    let answer = unsafe { answering::C_GetTokenInfo(slot, info) };
    if answer == CKR_OK {
        // SAFETY: the real module has just filled it.
        unsafe { (*info).flags |= control::flags() };
    }
    if answer == CKR_OK && is_without_login() {
        // SAFETY: the real module has just filled it.
        unsafe { (*info).flags &= !CKF_LOGIN_REQUIRED };
    }
    answer
}

unsafe extern "C" fn C_Login(
    session: CK_SESSION_HANDLE,
    user: CK_USER_TYPE,
    pin: *mut CK_UTF8CHAR,
    length: CK_ULONG,
) -> CK_RV {
    if is_without_login() {
        return CKR_USER_TYPE_INVALID;
    }
    // SAFETY: the caller's arguments, handed on as they came.
    unsafe { answering::C_Login(session, user, pin, length) }
}

unsafe extern "C" fn C_CreateObject(
    session: CK_SESSION_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    object: *mut CK_OBJECT_HANDLE,
) -> CK_RV {
    let unknown = control::unknown();
    let length = usize::try_from(count).unwrap_or(0);
    let is_unknown = |position: usize| {
        // SAFETY: the caller says that so many attributes are there.
        let attribute = unsafe { template.add(position).read_unaligned() };
        unknown.contains(&{ attribute.type_ })
    };
    if !template.is_null() && (0..length).any(is_unknown) {
        control::count("C_CreateObject");
        return CKR_ATTRIBUTE_TYPE_INVALID;
    }
    // SAFETY: the caller's arguments, handed on as they came.
    unsafe { answering::C_CreateObject(session, template, count, object) }
}

/// The list that is given out. It never moves.
struct List(CK_FUNCTION_LIST);

static LIST: OnceLock<Option<List>> = OnceLock::new();

/// The entry point of every PKCS#11 module. Never fails on purpose: a library that does not load at all
/// is a wrong path.
///
/// # Safety
/// `out` can be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetFunctionList(out: *mut *mut CK_FUNCTION_LIST) -> CK_RV {
    control::count("C_GetFunctionList");
    match LIST.get_or_init(|| list().map(List)) {
        Some(List(list)) if !out.is_null() => {
            // SAFETY: the caller says so. Callers read the list and do not write it.
            unsafe { out.write(ptr::from_ref(list).cast_mut()) };
            CKR_OK
        }
        Some(_) => CKR_ARGUMENTS_BAD,
        None => CKR_GENERAL_ERROR,
    }
}
