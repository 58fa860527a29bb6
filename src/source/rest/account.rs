//! Account of the source: as the server names it, or as the configuration does.

use cynosure_engine::rest::{RowError, TableName, scalar_text};
use cynosure_engine::{AccountId, Cause, Failure};

use crate::source::rest::call::{CallValues, RestCall, profile_mismatch};
use crate::source::rest::source::RestSource;

impl RestSource {
    /// Returns the account, and rejects any but the expected one. The server is asked once, if the
    /// profile has `[account]`, and again when the credential has changed.
    pub(super) async fn account_id(&self) -> Result<AccountId, Failure> {
        if self.profile().tables.account.is_none() {
            return self.check_account(AccountId::new(self.options.account_name.as_str()));
        }
        // Only one request at a time asks for it.
        let mut verified = self.verified_account.lock().await;
        if let Some(account) = &*verified {
            return Ok(account.clone());
        }
        let account = self.check_account(self.request_account().await?)?;
        *verified = Some(account.clone());
        Ok(account)
    }

    async fn request_account(&self) -> Result<AccountId, Failure> {
        let Some(table) = &self.profile().tables.account else {
            return Ok(AccountId::new(self.options.account_name.as_str()));
        };
        let call = RestCall {
            table: TableName::Account,
            request: &table.request,
            values: CallValues::default(),
            arguments: Vec::new(),
            url: None,
        };
        let response = self.send(call).await.map_err(|failure| self.no_service(failure))?;
        let id = table.id.first(&response.body).and_then(scalar_text);
        let id = id.filter(|id| !id.is_empty()).ok_or_else(|| {
            let sentence =
                format!("`[account] id` = {:?} selects no text in the response", table.id.as_str());
            profile_mismatch(self, RowError(sentence))
        })?;
        Ok(AccountId::new(id))
    }

    /// Explains a request for the account that found nothing.
    fn no_service(&self, failure: Failure) -> Failure {
        if failure.cause != Cause::NotFound {
            return failure;
        }
        let message = format!(
            "{} does not have what `[account]` of {} requests: check `base_url` ({})",
            self.host(),
            self.profile_label(),
            failure.message
        );
        let response = failure.response;
        Failure { response, ..Failure::new(Cause::NotFound, message) }
    }

    fn check_account(&self, account: AccountId) -> Result<AccountId, Failure> {
        let expected = self.account.get_or_init(|| account.clone());
        if *expected == account {
            return Ok(account);
        }
        Err(Failure::account_changed(&self.options.name, expected, &account))
    }
}
