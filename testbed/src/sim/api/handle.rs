//! The HTTP surface: methods, bodies, and which answer each gets.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use super::{
    Answer, ApiServer, Reply, Request, Watch, events,
    kind::{Kind, Rules},
    list::Scope,
    query::{ListOptions, Query, parse_revision},
    route::{Route, Target},
    status::{
        Result, bad_request, failure, method_not_allowed, no_such_path, not_found, not_simulated,
        too_large_revision, unknown, unsupported_media_type,
    },
    view::{Form, View},
};

const BODIES: [&str; 3] = [
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
];
const MERGE: &str = "application/merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// A request, and what its path and headers say.
struct Call<'a> {
    request: &'a Request,
    query: Query,
    form: Form,
    /// The newest revision that this server knows: less than the store's when it lags.
    newest: u64,
}

impl ApiServer {
    /// Answers a request.
    pub fn handle(&mut self, request: &Request) -> Answer {
        let newest = self.revision();
        self.answer(request, newest)
    }

    /// Answers a GET or LIST from the state at a revision that is not compacted, as a server that lags behind
    /// would; everything else as [`Self::handle`].
    pub fn handle_stale(&mut self, request: &Request, at: u64) -> Answer {
        self.answer(request, at.clamp(self.compacted(), self.revision()))
    }

    fn answer(&mut self, request: &Request, newest: u64) -> Answer {
        self.dispatch(request, newest).unwrap_or_else(Answer::Whole)
    }

    fn dispatch(&mut self, request: &Request, newest: u64) -> Result<Answer> {
        let route = self.route(&request.path);
        if let Route::Document = route {
            return self.document_at(request);
        }
        let call = Call {
            request,
            query: Query::parse(&request.query),
            form: Form::accepted(&request.accept)?,
            newest,
        };
        check_timeout(&call.query)?;
        match route {
            Route::Collection(target) => self
                .collection(&call, &target)
                .map_err(|reply| events::named_by_group(&target, reply)),
            Route::Object {
                target,
                name,
                subresource,
            } => self
                .object(&call, &target, &name, subresource.as_deref())
                .map(Answer::Whole)
                .map_err(|reply| events::named_by_group(&target, reply)),
            Route::Document | Route::Unknown => Err(self.nothing_at(&request.path)),
        }
    }

    fn document_at(&self, request: &Request) -> Result<Answer> {
        let document = self.document(&request.path);
        let document = document.ok_or_else(|| self.nothing_at(&request.path))?;
        if request.method != Method::GET {
            return Err(method_not_allowed());
        }
        Ok(Answer::Whole(ok(200, Arc::new(document))))
    }

    /// 404: the server of custom resources, which has the last word on unknown groups, says it as text.
    fn nothing_at(&self, path: &str) -> Reply {
        let group = path
            .strip_prefix("/apis/")
            .and_then(|rest| rest.split('/').next());
        let built_in = |kind: &Arc<Kind>| kind.custom().is_none() && Some(kind.group.as_str()) == group;
        if group.is_none_or(|group| group == "events.k8s.io") || self.kinds.values().any(built_in) {
            return no_such_path();
        }
        Reply {
            code: 404,
            body: Arc::new(json!("404 page not found\n")),
            retry_after: None,
        }
    }

    fn collection(&mut self, call: &Call<'_>, target: &Target) -> Result<Answer> {
        let kind = &target.kind;
        let everywhere = kind.namespaced && target.namespace.is_empty();
        match call.request.method.as_str() {
            "GET" => self.read(call, target),
            "POST" | "DELETE" if everywhere => Err(elsewhere(kind)),
            "POST" => self.post(call, target).map(Answer::Whole),
            "DELETE" if matches!(kind.rules, Rules::Namespace) => Err(method_not_allowed()),
            "DELETE" => {
                let (listing, scope) = self.listing(call, target)?;
                let options = delete_options(call)?;
                let by = call.request.user.clone();
                let page = self.delete_collection(&by, &scope, &options, listing)?;
                let body = call.view(target).list(page.metadata, &page.items, self.now());
                Ok(Answer::Whole(ok(200, Arc::new(body))))
            }
            "PUT" if kind.custom().is_some() => Err(bad_request("name must be provided")),
            _ => Err(method_not_allowed()),
        }
    }

    fn listing(&self, call: &Call<'_>, target: &Target) -> Result<(ListOptions, Scope)> {
        let options = ListOptions::parse(&call.query)?;
        let scope = Scope::new(target, &options, self.sharded)?;
        Ok((options, scope))
    }

    fn read(&self, call: &Call<'_>, target: &Target) -> Result<Answer> {
        let (options, scope) = self.listing(call, target)?;
        let view = call.view(target);
        if options.watch {
            return Watch::new(self, scope, view, &options).map(Answer::Watch);
        }
        let page = self.page(&scope, &options, call.newest)?;
        let body = view.list(page.metadata, &page.items, self.now());
        Ok(Answer::Whole(ok(200, Arc::new(body))))
    }

    fn post(&mut self, call: &Call<'_>, target: &Target) -> Result<Reply> {
        check_options(call, "CreateOptions")?;
        let object = body(call, target)?;
        let object = target.kind.decoded(object)?;
        let by = &call.request.user;
        let made = self.create_object(by, &target.kind, &target.namespace, object)?;
        Ok(ok(201, call.view(target).object(&made, self.now())))
    }

    fn object(&mut self, call: &Call<'_>, target: &Target, name: &str, sub: Option<&str>) -> Result<Reply> {
        let kind = &target.kind;
        let at = (target.namespace.as_str(), name);
        let method = call.request.method.as_str();
        match (&kind.rules, sub) {
            (_, None) => {}
            (_, Some("status")) if kind.has_status() && method != "POST" && method != "DELETE" => {}
            (Rules::Pod, Some("binding")) if method == "POST" => {
                check_options(call, "CreateOptions")?;
                let binding = parsed(call)?;
                let by = &call.request.user;
                let status = self.bind_pod(by, &target.namespace, name, &binding)?;
                return Ok(ok(201, Arc::new(status)));
            }
            (Rules::Namespace, Some("finalize")) if method == "PUT" => {}
            (Rules::Custom(_), Some("status")) => return Err(method_not_allowed()),
            (Rules::Custom(_), Some(_)) => return Err(not_found(kind, name)),
            (Rules::Pod, Some("binding")) | (Rules::Namespace, Some("finalize")) => {
                return Err(method_not_allowed());
            }
            (Rules::Pod, Some(other @ ("eviction" | "log" | "exec" | "resize" | "ephemeralcontainers"))) => {
                return Err(not_simulated(&format!("pods/{other}")));
            }
            (_, Some("status")) if kind.has_status() => return Err(method_not_allowed()),
            (_, Some(_)) => return Err(no_such_path()),
        }
        match method {
            "GET" => self.read_one(call, target, name),
            "PUT" => {
                check_options(call, "UpdateOptions")?;
                let object = kind.decoded(body(call, target)?)?;
                let (object, created) = self.put_object(&call.request.user, kind, at, sub, object)?;
                let code = if created { 201 } else { 200 };
                Ok(ok(code, call.view(target).object(&object, self.now())))
            }
            "PATCH" => {
                check_options(call, "PatchOptions")?;
                let patch = merge_patch(call, kind)?;
                let object = self.patch_object(&call.request.user, kind, at, sub, &patch)?;
                Ok(ok(200, call.view(target).object(&object, self.now())))
            }
            "DELETE" => self.delete_one(call, target, name),
            // A custom resource is made at whatever path below its collection.
            "POST" if kind.custom().is_some() => self.post(call, target),
            _ => Err(method_not_allowed()),
        }
    }

    fn delete_one(&mut self, call: &Call<'_>, target: &Target, name: &str) -> Result<Reply> {
        let options = delete_options(call)?;
        let at = (target.namespace.as_str(), name);
        let left = self.delete_object(&call.request.user, &target.kind, at, &options)?;
        if left["kind"] == "Status" {
            return Ok(ok(200, left));
        }
        let waits = self
            .store
            .get(&target.kind.plural, &target.namespace, name)
            .is_some();
        let code = if waits && options["orphanDependents"] == false {
            202
        } else {
            200
        };
        Ok(ok(code, call.view(target).object(&left, self.now())))
    }

    fn read_one(&self, call: &Call<'_>, target: &Target, name: &str) -> Result<Reply> {
        let text = call.query.get("resourceVersion");
        let asked = parse_revision(text)
            .map_err(|why| unknown(format!("resourceVersion: Invalid value: {text:?}: {why}")))?;
        if asked > call.newest {
            return Err(too_large_revision(asked, call.newest));
        }
        let object = self
            .store
            .get_at(&target.kind.plural, &target.namespace, name, call.newest);
        let object = object.ok_or_else(|| not_found(&target.kind, name))?;
        Ok(ok(200, call.view(target).object(&object, self.now())))
    }
}

impl Call<'_> {
    fn view(&self, target: &Target) -> View {
        View {
            form: self.form,
            kind: target.kind.clone(),
            core_event: target.core_event,
        }
    }

    fn media_type(&self) -> &str {
        let media = self.request.content_type.split(';').next();
        media.unwrap_or_default().trim()
    }
}

fn ok(code: u16, body: Arc<Value>) -> Reply {
    Reply {
        code,
        body,
        retry_after: None,
    }
}

/// Writing to a collection without naming a namespace.
fn elsewhere(kind: &Kind) -> Reply {
    if kind.custom().is_some() {
        no_such_path()
    } else {
        method_not_allowed()
    }
}

/// `?timeout=` is for the caller; here it only has to be a Go duration.
fn check_timeout(query: &Query) -> Result<()> {
    let text = query.get("timeout");
    let is_duration = text.is_empty() || text.parse::<jiff::SignedDuration>().is_ok();
    if is_duration {
        return Ok(());
    }
    Err(bad_request(format!(
        "invalid timeout specified in the request URL - time: invalid duration {text:?}"
    )))
}

fn check_options(call: &Call<'_>, of: &str) -> Result<()> {
    use super::status::{FieldError, invalid_named};
    let mut errors = Vec::new();
    if call.query.has("dryRun") {
        let asked = call.query.get("dryRun");
        if asked == "All" {
            return Err(not_simulated("dryRun"));
        }
        let value = json!([asked]);
        errors.push(FieldError::unsupported("dryRun", &value, &["All".to_owned()]));
    }
    let validation = call.query.get("fieldValidation");
    let known = ["", "Ignore", "Strict", "Warn"];
    if !known.contains(&validation) {
        let supported = known.map(str::to_owned);
        let value = json!(validation);
        errors.push(FieldError::unsupported("fieldValidation", &value, &supported));
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(invalid_named("meta.k8s.io", of, "", &errors))
    }
}

/// Upstream's summary of a body that it cannot read.
fn summary(bytes: &[u8]) -> String {
    const MOST: usize = 30;
    let (shown, more) = match bytes.get(..MOST) {
        Some(start) if bytes.len() > MOST => (start, " ..."),
        _ => (bytes, ""),
    };
    match shown.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(shown)),
        Some(_) => {
            let hex: String = shown.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{hex}{more}")
        }
    }
}

/// Go's words for JSON that cannot be read, where they can be told.
fn json_error(body: &[u8], why: &serde_json::Error) -> String {
    if why.is_eof() {
        return "unexpected end of JSON input".to_owned();
    }
    let lines = body.split(|byte| *byte == b'\n');
    let before: usize = lines
        .take(why.line().saturating_sub(1))
        .map(|line| line.len() + 1)
        .sum();
    let at = (before + why.column()).saturating_sub(1);
    let found = body.get(at).map_or(' ', |byte| char::from(*byte));
    format!("invalid character '{found}' looking for beginning of value")
}

fn parsed(call: &Call<'_>) -> Result<Value> {
    let media = call.media_type();
    if media == "application/yaml" || media == "application/vnd.kubernetes.protobuf" {
        return Err(not_simulated(&format!("a body of type {media}")));
    }
    if !media.is_empty() && media != "application/json" {
        return Err(unsupported_media_type(&BODIES));
    }
    let bytes = &call.request.body;
    serde_json::from_slice(bytes).map_err(|why| bad_request(json_error(bytes, &why)))
}

/// The object in the body.
fn body(call: &Call<'_>, target: &Target) -> Result<Value> {
    let kind = &target.kind;
    let bytes = &call.request.body;
    let unrecognized = |why: &str| {
        bad_request(format!(
            "the object provided is unrecognized (must be of type {}): {why} ({})",
            kind.kind,
            summary(bytes)
        ))
    };
    let mut object = parsed(call).map_err(|reply| {
        if reply.code != 400 {
            return reply;
        }
        let why = reply.body["message"].as_str().unwrap_or_default();
        unrecognized(&format!("couldn't get version/kind; json parse error: {why}"))
    })?;
    if !object.is_object() {
        let is = match &object {
            Value::Array(_) => "array",
            Value::String(_) => "string",
            Value::Number(_) => "number",
            _ => "bool",
        };
        return Err(unrecognized(&format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {is} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
        )));
    }
    let version = if target.core_event {
        "v1".to_owned()
    } else {
        kind.api_version()
    };
    let said = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
    let (own_version, own_kind) = (said("apiVersion"), said("kind"));
    if kind.custom().is_some() {
        if own_kind.is_empty() {
            let text = String::from_utf8_lossy(bytes);
            return Err(unrecognized(&format!("Object 'Kind' is missing in '{text}'")));
        }
        if own_version != version {
            return Err(bad_request(format!(
                "the API version in the data ({own_version}) does not match the expected API version ({version})"
            )));
        }
        return Ok(object);
    }
    if !own_kind.is_empty() && own_kind != kind.kind {
        return Err(bad_request(format!(
            "{own_kind} in version {:?} cannot be handled as a {}: converting (v1.{own_kind}) to (core.{}): unknown conversion",
            last(&own_version),
            kind.kind,
            kind.kind
        )));
    }
    if !own_version.is_empty() && own_version != version {
        return Err(bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: no kind {:?} is registered for version {own_version:?} in scheme \"pkg/runtime/scheme.go:111\"",
            kind.kind,
            last(&own_version),
            kind.kind,
            kind.kind
        )));
    }
    object["apiVersion"] = json!(version);
    object["kind"] = json!(kind.kind);
    Ok(object)
}

fn last(version: &str) -> &str {
    version.rsplit('/').next().unwrap_or_default()
}

fn merge_patch(call: &Call<'_>, kind: &Kind) -> Result<Value> {
    let typed = kind.custom().is_none();
    match call.media_type() {
        MERGE => {}
        STRATEGIC if typed => return Err(not_simulated("a strategic merge patch")),
        JSON_PATCH => return Err(not_simulated("a JSON patch")),
        APPLY => return Err(not_simulated("server-side apply")),
        _ if typed => {
            let message = "415: Unsupported Media Type";
            return Err(failure(415, "UnsupportedMediaType", message, Some(json!({}))));
        }
        _ => return Err(unsupported_media_type(&[JSON_PATCH, MERGE, APPLY])),
    }
    serde_json::from_slice(&call.request.body).map_err(|_| bad_request("invalid JSON patch"))
}

/// DeleteOptions of the body, or of the query where there is none.
fn delete_options(call: &Call<'_>) -> Result<Value> {
    check_options(call, "DeleteOptions")?;
    let bytes = &call.request.body;
    if bytes.is_empty() {
        let mut options = json!({});
        if let Some(seconds) = call.query.number("gracePeriodSeconds")? {
            options["gracePeriodSeconds"] = json!(seconds);
        }
        if let Some(orphan) = call.query.flag("orphanDependents") {
            options["orphanDependents"] = json!(orphan);
        }
        let policy = call.query.get("propagationPolicy");
        if !policy.is_empty() {
            options["propagationPolicy"] = json!(policy);
        }
        return Ok(options);
    }
    let options = parsed(call).map_err(|reply| {
        if reply.code != 400 {
            return reply;
        }
        let why = reply.body["message"].as_str().unwrap_or_default();
        bad_request(format!("couldn't get version/kind; json parse error: {why}"))
    })?;
    let kind = options["kind"].as_str().unwrap_or("DeleteOptions");
    if kind != "DeleteOptions" {
        let version = options["apiVersion"].as_str().unwrap_or_default();
        return Err(bad_request(format!(
            "no kind {kind:?} is registered for version {version:?} in scheme \"pkg/runtime/scheme.go:111\""
        )));
    }
    Ok(options)
}
