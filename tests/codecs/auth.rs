//! Requests and responses of the APIs for security. As in [`super::requests`] and [`super::responses`].

use bytes::Bytes;
use kafka_protocol::messages as theirs;
use kafka_protocol::messages::{
    create_acls_request as car, create_acls_response as cas, delete_acls_request as xar,
    delete_acls_response as xas, describe_acls_response as das,
    describe_client_quotas_request as dqr, describe_client_quotas_response as dqs,
    describe_user_scram_credentials_request as dsr,
    describe_user_scram_credentials_response as dss,
};
use millstream::kafka::api::ApiKey;
use millstream::kafka::auth::{
    create_acls, delete_acls, describe_acls, describe_client_quotas,
    describe_user_scram_credentials, sasl_authenticate, sasl_handshake,
};
use millstream::kafka::error::ErrorCode;
use millstream::wire::Wire;

use super::{frame, future, open, reply, text, versions};

pub fn sasl_handshake_request(_version: i16) -> theirs::SaslHandshakeRequest {
    theirs::SaslHandshakeRequest::default().with_mechanism(text("PLAIN"))
}

#[test]
fn sasl_handshake_requests() {
    for version in versions(ApiKey::SaslHandshake) {
        let frame = frame(
            ApiKey::SaslHandshake,
            version,
            &sasl_handshake_request(version),
        );
        let mut r = open(&frame, ApiKey::SaslHandshake, version);
        let request = sasl_handshake::Request::decode(&mut r, version).unwrap();
        let expected = sasl_handshake::Request { mechanism: "PLAIN" };
        assert_eq!((request, r.remaining()), (expected, 0), "v{version}");
    }
}

#[test]
fn sasl_handshake_responses() {
    let ours = sasl_handshake::Response {
        error_code: ErrorCode::IllegalSaslState,
        mechanisms: vec!["PLAIN".into(), "SCRAM-SHA-256".into()],
    };
    for version in versions(ApiKey::SaslHandshake) {
        let expected = theirs::SaslHandshakeResponse::default()
            .with_error_code(34)
            .with_mechanisms(vec![text("PLAIN"), text("SCRAM-SHA-256")]);
        let read: theirs::SaslHandshakeResponse = reply(ApiKey::SaslHandshake, version, |w| {
            ours.encode(w, version);
        });
        assert_eq!(read, expected, "v{version}");
    }
}

pub fn sasl_authenticate_request(version: i16) -> theirs::SaslAuthenticateRequest {
    let request = theirs::SaslAuthenticateRequest::default()
        .with_auth_bytes(Bytes::from_static(b"\0user\0word"));
    if version >= 2 {
        return request.with_unknown_tagged_field(9, future());
    }
    request
}

#[test]
fn sasl_authenticate_requests() {
    for version in versions(ApiKey::SaslAuthenticate) {
        let theirs = sasl_authenticate_request(version);
        let frame = frame(ApiKey::SaslAuthenticate, version, &theirs);
        let mut r = open(&frame, ApiKey::SaslAuthenticate, version);
        let request = sasl_authenticate::Request::decode(&mut r, version).unwrap();
        let expected = sasl_authenticate::Request {
            auth_bytes: b"\0user\0word",
        };
        assert_eq!((request, r.remaining()), (expected, 0), "v{version}");
    }
}

#[test]
fn sasl_authenticate_responses() {
    let ours = sasl_authenticate::Response {
        error_code: ErrorCode::IllegalSaslState,
        error_message: Some("what".into()),
        auth_bytes: Bytes::from_static(b"token"),
        session_lifetime_ms: 1 << 33,
    };
    for version in versions(ApiKey::SaslAuthenticate) {
        let mut expected = theirs::SaslAuthenticateResponse::default()
            .with_error_code(34)
            .with_error_message(Some(text("what")))
            .with_auth_bytes(Bytes::from_static(b"token"));
        if version >= 1 {
            expected.session_lifetime_ms = 1 << 33;
        }
        let key = ApiKey::SaslAuthenticate;
        let read: theirs::SaslAuthenticateResponse = reply(key, version, |w| {
            ours.encode(w, version);
        });
        assert_eq!(read, expected, "v{version}");
    }
}

pub fn describe_acls_request(_version: i16) -> theirs::DescribeAclsRequest {
    theirs::DescribeAclsRequest::default()
        .with_resource_type_filter(2)
        .with_resource_name_filter(Some(text("orders")))
        .with_pattern_type_filter(4)
        .with_principal_filter(Some(text("User:me")))
        .with_host_filter(None)
        .with_operation(5)
        .with_permission_type(6)
        .with_unknown_tagged_field(9, future())
}

const FILTER: describe_acls::Request<'static> = describe_acls::Request {
    resource_type_filter: 2,
    resource_name_filter: Some("orders"),
    pattern_type_filter: 4,
    principal_filter: Some("User:me"),
    host_filter: None,
    operation: 5,
    permission_type: 6,
};

#[test]
fn describe_acls_requests() {
    for version in versions(ApiKey::DescribeAcls) {
        let frame = frame(
            ApiKey::DescribeAcls,
            version,
            &describe_acls_request(version),
        );
        let mut r = open(&frame, ApiKey::DescribeAcls, version);
        let request = describe_acls::Request::decode(&mut r, version).unwrap();
        assert_eq!((request, r.remaining()), (FILTER, 0), "v{version}");
    }
}

#[test]
fn describe_acls_responses() {
    let acl = describe_acls::Acl {
        principal: "User:me".into(),
        host: "*".into(),
        operation: 5,
        permission_type: 6,
    };
    let resource = describe_acls::ResourceResponse {
        resource_type: 2,
        resource_name: "orders".into(),
        pattern_type: 4,
        acls: vec![acl],
    };
    let ours = describe_acls::Response {
        throttle_time_ms: 32,
        error_code: ErrorCode::SecurityDisabled,
        error_message: Some("what".into()),
        resources: vec![resource],
    };
    for version in versions(ApiKey::DescribeAcls) {
        let acl = das::AclDescription::default()
            .with_principal(text("User:me"))
            .with_host(text("*"))
            .with_operation(5)
            .with_permission_type(6);
        let resource = das::DescribeAclsResource::default()
            .with_resource_type(2)
            .with_resource_name(text("orders"))
            .with_pattern_type(4)
            .with_acls(vec![acl]);
        let expected = theirs::DescribeAclsResponse::default()
            .with_throttle_time_ms(32)
            .with_error_code(54)
            .with_error_message(Some(text("what")))
            .with_resources(vec![resource]);
        let read: theirs::DescribeAclsResponse = reply(ApiKey::DescribeAcls, version, |w| {
            ours.encode(w, version);
        });
        assert_eq!(read, expected, "v{version}");
    }
}

pub fn create_acls_request(_version: i16) -> theirs::CreateAclsRequest {
    let creation = car::AclCreation::default()
        .with_resource_type(2)
        .with_resource_name(text("orders"))
        .with_resource_pattern_type(4)
        .with_principal(text("User:me"))
        .with_host(text("*"))
        .with_operation(5)
        .with_permission_type(6)
        .with_unknown_tagged_field(9, future());
    theirs::CreateAclsRequest::default()
        .with_creations(vec![creation])
        .with_unknown_tagged_field(9, future())
}

#[test]
fn create_acls_requests() {
    for version in versions(ApiKey::CreateAcls) {
        let frame = frame(ApiKey::CreateAcls, version, &create_acls_request(version));
        let mut r = open(&frame, ApiKey::CreateAcls, version);
        let creation = create_acls::Creation {
            resource_type: 2,
            resource_name: "orders",
            pattern_type: 4,
            principal: "User:me",
            host: "*",
            operation: 5,
            permission_type: 6,
        };
        let expected = create_acls::Request {
            creations: vec![creation],
        };
        let request = create_acls::Request::decode(&mut r, version).unwrap();
        assert_eq!((request, r.remaining()), (expected, 0), "v{version}");
    }
}

#[test]
fn create_acls_responses() {
    let result = create_acls::CreationResponse {
        error_code: ErrorCode::SecurityDisabled,
        error_message: Some("what".into()),
    };
    let ours = create_acls::Response {
        throttle_time_ms: 32,
        results: vec![result, create_acls::CreationResponse::default()],
    };
    for version in versions(ApiKey::CreateAcls) {
        let result = cas::AclCreationResult::default()
            .with_error_code(54)
            .with_error_message(Some(text("what")));
        let plain_result = cas::AclCreationResult::default().with_error_message(None);
        let expected = theirs::CreateAclsResponse::default()
            .with_throttle_time_ms(32)
            .with_results(vec![result, plain_result]);
        let read: theirs::CreateAclsResponse = reply(ApiKey::CreateAcls, version, |w| {
            ours.encode(w, version);
        });
        assert_eq!(read, expected, "v{version}");
    }
}

pub fn delete_acls_request(_version: i16) -> theirs::DeleteAclsRequest {
    let filter = xar::DeleteAclsFilter::default()
        .with_resource_type_filter(2)
        .with_resource_name_filter(Some(text("orders")))
        .with_pattern_type_filter(4)
        .with_principal_filter(Some(text("User:me")))
        .with_host_filter(None)
        .with_operation(5)
        .with_permission_type(6)
        .with_unknown_tagged_field(9, future());
    theirs::DeleteAclsRequest::default()
        .with_filters(vec![filter])
        .with_unknown_tagged_field(9, future())
}

#[test]
fn delete_acls_requests() {
    for version in versions(ApiKey::DeleteAcls) {
        let frame = frame(ApiKey::DeleteAcls, version, &delete_acls_request(version));
        let mut r = open(&frame, ApiKey::DeleteAcls, version);
        let expected = delete_acls::Request {
            filters: vec![FILTER],
        };
        let request = delete_acls::Request::decode(&mut r, version).unwrap();
        assert_eq!((request, r.remaining()), (expected, 0), "v{version}");
    }
}

#[test]
fn delete_acls_responses() {
    let acl = delete_acls::MatchingAcl {
        error_code: ErrorCode::InvalidRequest,
        error_message: Some("why".into()),
        resource_type: 2,
        resource_name: "orders".into(),
        pattern_type: 4,
        principal: "User:me".into(),
        host: "*".into(),
        operation: 5,
        permission_type: 6,
    };
    let result = delete_acls::FilterResponse {
        error_code: ErrorCode::SecurityDisabled,
        error_message: Some("what".into()),
        matching_acls: vec![acl],
    };
    let ours = delete_acls::Response {
        throttle_time_ms: 32,
        filter_results: vec![result, delete_acls::FilterResponse::default()],
    };
    for version in versions(ApiKey::DeleteAcls) {
        let acl = xas::DeleteAclsMatchingAcl::default()
            .with_error_code(42)
            .with_error_message(Some(text("why")))
            .with_resource_type(2)
            .with_resource_name(text("orders"))
            .with_pattern_type(4)
            .with_principal(text("User:me"))
            .with_host(text("*"))
            .with_operation(5)
            .with_permission_type(6);
        let result = xas::DeleteAclsFilterResult::default()
            .with_error_code(54)
            .with_error_message(Some(text("what")))
            .with_matching_acls(vec![acl]);
        let plain_result = xas::DeleteAclsFilterResult::default().with_error_message(None);
        let expected = theirs::DeleteAclsResponse::default()
            .with_throttle_time_ms(32)
            .with_filter_results(vec![result, plain_result]);
        let read: theirs::DeleteAclsResponse = reply(ApiKey::DeleteAcls, version, |w| {
            ours.encode(w, version);
        });
        assert_eq!(read, expected, "v{version}");
    }
}

pub fn describe_client_quotas_request(version: i16) -> theirs::DescribeClientQuotasRequest {
    let component = dqr::ComponentData::default()
        .with_entity_type(text("user"))
        .with_match_type(2)
        .with_match(Some(text("me")));
    let mut components = vec![component.clone(), component.with_match(None)];
    let mut request = theirs::DescribeClientQuotasRequest::default().with_strict(true);
    if version >= 1 {
        let tagged =
            |component: dqr::ComponentData| component.with_unknown_tagged_field(9, future());
        components = components.into_iter().map(tagged).collect();
        request = request.with_unknown_tagged_field(9, future());
    }
    request.with_components(components)
}

#[test]
fn describe_client_quotas_requests() {
    for version in versions(ApiKey::DescribeClientQuotas) {
        let theirs = describe_client_quotas_request(version);
        let frame = frame(ApiKey::DescribeClientQuotas, version, &theirs);
        let mut r = open(&frame, ApiKey::DescribeClientQuotas, version);
        let component = describe_client_quotas::Component {
            entity_type: "user",
            match_type: 2,
            name: Some("me"),
        };
        let without_name = describe_client_quotas::Component {
            name: None,
            ..component
        };
        let expected = describe_client_quotas::Request {
            components: vec![component, without_name],
            strict: true,
        };
        let request = describe_client_quotas::Request::decode(&mut r, version).unwrap();
        assert_eq!((request, r.remaining()), (expected, 0), "v{version}");
    }
}

#[test]
fn describe_client_quotas_responses() {
    let entity = describe_client_quotas::Entity {
        entity_type: "user".into(),
        entity_name: Some("me".into()),
    };
    let value = describe_client_quotas::Value {
        key: "producer_byte_rate".into(),
        value_bits: 1024.5f64.to_bits() as i64,
    };
    let entry = describe_client_quotas::Entry {
        entity: vec![entity, describe_client_quotas::Entity::default()],
        values: vec![value],
    };
    let mut ours = describe_client_quotas::Response {
        throttle_time_ms: 32,
        error_code: ErrorCode::InvalidRequest,
        error_message: Some("what".into()),
        entries: Some(vec![entry]),
    };
    for version in versions(ApiKey::DescribeClientQuotas) {
        let entity = dqs::EntityData::default()
            .with_entity_type(text("user"))
            .with_entity_name(Some(text("me")));
        let plain_entity = dqs::EntityData::default().with_entity_name(None);
        let value = dqs::ValueData::default()
            .with_key(text("producer_byte_rate"))
            .with_value(1024.5);
        let entry = dqs::EntryData::default()
            .with_entity(vec![entity, plain_entity])
            .with_values(vec![value]);
        let expected = theirs::DescribeClientQuotasResponse::default()
            .with_throttle_time_ms(32)
            .with_error_code(42)
            .with_error_message(Some(text("what")))
            .with_entries(Some(vec![entry]));
        let read =
            |ours: &describe_client_quotas::Response| -> theirs::DescribeClientQuotasResponse {
                reply(ApiKey::DescribeClientQuotas, version, |w| {
                    ours.encode(w, version);
                })
            };
        assert_eq!(read(&ours), expected, "v{version}");
        let entries = ours.entries.take();
        assert_eq!(read(&ours), expected.with_entries(None), "v{version}");
        ours.entries = entries;
    }
}

pub fn describe_user_scram_credentials_request(
    _version: i16,
) -> theirs::DescribeUserScramCredentialsRequest {
    let user = dsr::UserName::default()
        .with_name(text("me"))
        .with_unknown_tagged_field(9, future());
    theirs::DescribeUserScramCredentialsRequest::default()
        .with_users(Some(vec![user]))
        .with_unknown_tagged_field(9, future())
}

#[test]
fn describe_user_scram_credentials_requests() {
    let key = ApiKey::DescribeUserScramCredentials;
    let user = describe_user_scram_credentials::User { name: "me" };
    let some = describe_user_scram_credentials_request(0);
    let all = some.clone().with_users(None);
    for (theirs, users) in [(some, Some(vec![user])), (all, None)] {
        let frame = frame(key, 0, &theirs);
        let mut r = open(&frame, key, 0);
        let request = describe_user_scram_credentials::Request::decode(&mut r, 0).unwrap();
        let expected = describe_user_scram_credentials::Request { users };
        assert_eq!((request, r.remaining()), (expected, 0));
    }
}

#[test]
fn describe_user_scram_credentials_responses() {
    let credential = describe_user_scram_credentials::Credential {
        mechanism: 2,
        iterations: 8192,
    };
    let user = describe_user_scram_credentials::UserResponse {
        user: "me".into(),
        error_code: ErrorCode::ResourceNotFound,
        error_message: Some("why".into()),
        credentials: vec![credential],
    };
    let ours = describe_user_scram_credentials::Response {
        throttle_time_ms: 32,
        error_code: ErrorCode::InvalidRequest,
        error_message: Some("what".into()),
        results: vec![user],
    };
    let info = dss::CredentialInfo::default()
        .with_mechanism(2)
        .with_iterations(8192);
    let user = dss::DescribeUserScramCredentialsResult::default()
        .with_user(text("me"))
        .with_error_code(91)
        .with_error_message(Some(text("why")))
        .with_credential_infos(vec![info]);
    let expected = theirs::DescribeUserScramCredentialsResponse::default()
        .with_throttle_time_ms(32)
        .with_error_code(42)
        .with_error_message(Some(text("what")))
        .with_results(vec![user]);
    let key = ApiKey::DescribeUserScramCredentials;
    let read: theirs::DescribeUserScramCredentialsResponse = reply(key, 0, |w| {
        ours.encode(w, 0);
    });
    assert_eq!(read, expected);
}
