//! The accounts.
//!
//! A connection refers to its account, so that a change of its rules holds for it at once. The
//! default user's account is never replaced.

use super::log::AclLog;
use super::user::User;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// Name of the user that connections begin with.
pub const DEFAULT: &[u8] = b"default";

/// A user under its name.
#[derive(Debug)]
pub struct Account {
    name: Vec<u8>,
    restricted: AtomicBool,
    user: RwLock<Arc<User>>,
}

impl Account {
    /// An account for a user.
    pub fn new(name: &[u8], user: User) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_vec(),
            restricted: AtomicBool::new(!user.is_all_powerful()),
            user: RwLock::new(Arc::new(user)),
        })
    }

    /// Of sessions of the server's own (recovery, the link to our master): nothing restricts them.
    pub fn internal() -> Arc<Self> {
        static INTERNAL: OnceLock<Arc<Account>> = OnceLock::new();
        INTERNAL
            .get_or_init(|| Self::new(DEFAULT, User::all_powerful()))
            .clone()
    }

    /// The user's name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Whether there is anything that the user may not do.
    pub fn is_restricted(&self) -> bool {
        self.restricted.load(Ordering::Relaxed)
    }

    /// The user as it is now.
    pub fn user(&self) -> Arc<User> {
        self.user.read().clone()
    }

    /// Replaces the user's rules.
    pub fn replace(&self, user: User) {
        self.restricted
            .store(!user.is_all_powerful(), Ordering::Relaxed);
        *self.user.write() = Arc::new(user);
    }

    /// The user as a line of the ACL file.
    pub fn line(&self) -> Vec<u8> {
        [
            b"user ",
            self.name(),
            b" ",
            self.user().describe().as_slice(),
        ]
        .concat()
    }
}

/// All users by name.
pub type Users = BTreeMap<Vec<u8>, User>;

/// See the module.
#[derive(Debug)]
pub struct Acl {
    accounts: RwLock<BTreeMap<Vec<u8>, Arc<Account>>>,
    default: Arc<Account>,
    /// The default user needs a password, or is off.
    password_needed: AtomicBool,
    /// What was denied.
    pub log: Mutex<AclLog>,
}

impl Acl {
    /// Only the default user, with `requirepass`.
    pub fn new(password: Option<&[u8]>) -> Self {
        let default = Account::new(DEFAULT, User::all_powerful());
        let accounts = BTreeMap::from([(DEFAULT.to_vec(), default.clone())]);
        let this = Self {
            accounts: RwLock::new(accounts),
            default,
            password_needed: AtomicBool::new(false),
            log: Mutex::default(),
        };
        this.set_default_password(password);
        this
    }

    /// The account of new connections.
    pub fn default_account(&self) -> Arc<Account> {
        self.default.clone()
    }

    /// Whether new connections must log in before they do anything.
    pub fn password_needed(&self) -> bool {
        self.password_needed.load(Ordering::Relaxed)
    }

    /// Whether the default user needs no password, be it enabled or not.
    pub fn default_is_open(&self) -> bool {
        self.default.user().needs_no_password()
    }

    /// `requirepass` was changed.
    pub fn set_default_password(&self, password: Option<&[u8]>) {
        let mut user = User::clone(&self.default.user());
        user.set_password(password);
        self.set(&self.default, user);
    }

    /// The account of that name.
    pub fn find(&self, name: &[u8]) -> Option<Arc<Account>> {
        self.accounts.read().get(name).cloned()
    }

    /// All accounts, by name.
    pub fn all(&self) -> Vec<Arc<Account>> {
        self.accounts.read().values().cloned().collect()
    }

    /// The account to log in to with this password.
    pub fn authenticate(&self, name: &[u8], password: &[u8]) -> Option<Arc<Account>> {
        let account = self.find(name)?;
        account.user().accepts(password).then_some(account)
    }

    /// Replaces the rules of an account.
    pub fn set(&self, account: &Account, user: User) {
        account.replace(user);
        let default = self.default.user();
        let needed = !default.needs_no_password() || !default.is_enabled();
        self.password_needed.store(needed, Ordering::Relaxed);
    }

    /// Adds or changes a user.
    pub fn put(&self, name: &[u8], user: User) {
        match self.find(name) {
            Some(account) => self.set(&account, user),
            None => {
                let account = Account::new(name, user);
                self.accounts.write().insert(name.to_vec(), account);
            }
        }
    }

    /// Removes a user: connections that still refer to it may do nothing more. False if there is
    /// none of that name. The default user stays.
    pub fn remove(&self, name: &[u8]) -> bool {
        if name == DEFAULT {
            return false;
        }
        let removed = self.accounts.write().remove(name);
        if let Some(account) = &removed {
            account.replace(User::new(false));
        }
        removed.is_some()
    }

    /// Replaces all users. Those that are not named are removed; a default user that is not
    /// named is as it was born. The names of the accounts that connections must leave.
    pub fn replace_all(&self, mut users: Users) -> Vec<Vec<u8>> {
        let default = users.remove(DEFAULT).unwrap_or_else(User::all_powerful);
        let old = self.all();
        let mut left = Vec::new();
        for account in old.iter().filter(|account| account.name() != DEFAULT) {
            self.remove(account.name());
            left.push(account.name().to_vec());
        }
        self.set(&self.default, default);
        for (name, user) in users {
            self.put(&name, user);
        }
        left
    }
}
