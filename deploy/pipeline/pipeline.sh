#!/usr/bin/env bash
# Deploys a Rewarm fleet step by step, and stops at the first step that fails.
# It is made to be copied. `pipeline.sh --help` says what it reads.
set -euo pipefail
set -f # lists of URLs are split into words; a ? in one is no pattern

usage() {
    cat <<'HELP'
Usage: pipeline.sh deploy | rollback | STEP...

deploy     prerender manager worker realm hook recycle check
rollback   undo realm hook recycle check; DEPLOY_REALM has to put the files of
           the release before in place

Steps; each may be run alone, and again:
  prerender, manager, worker, realm
             run the role's command, then wait until it is ready
  hook       tell the realm servers; a failure is told, and ends nothing
  recycle    wait until every warm page of the fleet is of the new release
  check      load pages as visitors get them: does the application take over?
  undo       make the release before the current one again
  restart    roll the current release out again, from its canary

Environment:
  DEPLOY_PRERENDER, DEPLOY_MANAGER, DEPLOY_WORKER, DEPLOY_REALM
             a command for each role that starts its new version and returns when
             all of it runs; a role without one is left as it is
  REALM_URLS          realm servers, or the load balancer before them; required
  REWARM_MANAGER_URL  the prerender manager; required
  REWARM_SECRET       the fleet secret
  PRERENDER_URLS      prerender servers to wait for, besides what the manager sees
  POST_DEPLOYMENT     a command for the hook; default: POST /_post-deployment to
                      each of REALM_URLS
  RELEASE             the token to arrive at, the md5 of the built index.html;
                      default: what the realm servers agree on
  CHECK_URLS          pages to check; default: REALM_URLS. Flags of
                      `rewarm check` are variables: REWARM_VIA, REWARM_ALLOW_DIFFERENCE
  REWARM              the rewarm binary; default: rewarm
  DEPLOY_TIMEOUT 900, READY_TIMEOUT 120, ROLLOUT_TIMEOUT 600
                      the longest to wait for a command, for a role, for the fleet
  STABLE_FOR 5        how long the realm servers must agree; all in seconds

Exit code: 0 done, 1 a step failed, 2 wrong usage.
HELP
}

say() { printf '== %s\n' "$*" >&2; }

# What a server answered is shown in one short line: it may be anything.
line() { printf '%.300s' "${1//[^[:print:]]/ }"; }

# stop WHAT REMEDY: this is where the pipeline ends.
stop() {
    printf '!! %s\n!! What to do: %s\n' "$1" "$2" >&2
    exit 1
}

wrong() {
    printf 'pipeline.sh: %s\nRun "pipeline.sh --help".\n' "$1" >&2
    exit 2
}

get() { curl -sS --fail-with-body --max-time 5 --max-filesize 65536 "$1" 2>&1; }

run() { timeout --foreground -k 10 "$DEPLOY_TIMEOUT" bash -euo pipefail -c "$1" </dev/null >&2; }

# start ROLE COMMAND: has the user's command start the role's new version.
start() {
    if [[ -z $2 ]]; then
        say "$1: no command for it, left as it is"
        return
    fi
    say "$1: $2"
    run "$2" ||
        stop "$1: its command ended with $? (124: not within ${DEPLOY_TIMEOUT}s)" \
            "read what it wrote above. Later steps did not run, and visitors are served as before; run this step again."
}

# ready ROLE URL [TEXT]: waits until URL/readyz answers 200, with TEXT in it.
ready() {
    local answer deadline=$((SECONDS + READY_TIMEOUT))
    until answer=$(get "${2%/}/readyz") && [[ $answer == *"${3-}"* ]]; do
        ((SECONDS < deadline)) || stop "$1: $2 is not ready after ${READY_TIMEOUT}s: $(line "$answer")" \
            "see its log. Later steps did not run; once it is ready, run this step again."
        sleep 1
    done
    say "$1: $2 is ready"
}

# newest URL prints what a realm server took last: under gated promotion that is
# its candidate, which it does not serve before the fleet has checked it.
newest() {
    local answer
    answer=$(get "${1%/}/readyz") || true
    if [[ $answer =~ \"candidate\":\"([0-9a-f]{32})\" ]]; then
        printf '%s' "${BASH_REMATCH[1]}"
    else
        get "${1%/}/_host-shell-hash" || true
    fi
}

# stable prints the token that all realm servers have, once they have agreed on
# it for a while: behind a load balancer, one answer may come from an old replica.
stable() {
    local url now last='' since=$SECONDS deadline=$((SECONDS + READY_TIMEOUT + STABLE_FOR))
    while ((SECONDS < deadline)); do
        now=$(for url in $REALM_URLS; do newest "$url"; echo; done | sort -u)
        if [[ $now != "$last" || ! $now =~ ^[0-9a-f]{32}$ || $now != "${RELEASE:-$now}" ]]; then
            since=$SECONDS last=$now
        elif ((SECONDS - since >= STABLE_FOR)); then
            say "realm: all have $now"
            printf '%s' "$now"
            return
        fi
        sleep 1
    done
    stop "realm: the realm servers do not agree on ${RELEASE:-one release}; last seen: $(line "$now")" \
        "see that all replicas run with the new files, then run the realm step again."
}

prerender() {
    local url
    start prerender "${DEPLOY_PRERENDER-}"
    for url in ${PRERENDER_URLS-}; do ready prerender "$url"; done
}

manager() {
    start manager "${DEPLOY_MANAGER-}"
    ready manager "$REWARM_MANAGER_URL"
}

# A worker has no /readyz: that its command ended well is all there is to know.
worker() { start worker "${DEPLOY_WORKER-}"; }

# A realm server that refused the new files is up, on the old ones.
realm() {
    local url
    start realm "${DEPLOY_REALM-}"
    for url in $REALM_URLS; do ready realm "$url" '"host":"served"'; done
    RELEASE=$(stable)
    [[ -z ${GITHUB_OUTPUT-} ]] || echo "release=$RELEASE" >>"$GITHUB_OUTPUT"
}

# The secret goes through a pipe: a command line is everybody's to read.
post_deployment() {
    local url answer failed=0
    for url in $REALM_URLS; do
        answer=$(curl -sS --fail-with-body --max-time 60 -X POST "${url%/}/_post-deployment" \
            -H @<(printf 'Authorization: Bearer %s\n' "${REWARM_SECRET-}") 2>&1) || failed=1
        [[ $answer == *'"accepted":true'* ]] || failed=1
        say "hook: $url answers $(line "$answer")"
    done
    return $failed
}

# Realm servers report what they serve by themselves too. So a hook that fails
# costs seconds, and is no reason to leave the fleet on the release before.
hook() {
    say "hook: ${POST_DEPLOYMENT:-POST /_post-deployment}"
    if [[ -n ${POST_DEPLOYMENT-} ]]; then run "$POST_DEPLOYMENT"; else post_deployment; fi ||
        say 'WARNING: the hook failed; going on, for the realm servers report by themselves'
}

recycle() {
    local token=${RELEASE-}
    [[ -n $token ]] || token=$(stable)
    say "recycle: the fleet moves to $token"
    # What the canary saw while realm servers were restarting counts for nothing.
    # What an operator dropped stays so: a restart would only end their pause.
    case $("$REWARM" rollout status) in
    *"release $token was refused"*'it was dropped'*) ;;
    *" $token"*'paused by the canary'* | *"release $token was refused"*) restart ;;
    esac
    "$REWARM" rollout status --wait --release "$token" --timeout "${ROLLOUT_TIMEOUT}s" >&2 ||
        stop "recycle: the fleet is not on $token" \
            "the last lines above say why. If it was refused, no visitor gets it: deploy a better one. If visitors get it already, go back with \"pipeline.sh rollback\", DEPLOY_REALM putting the files of the release before in place; or mend what is wrong and run \"pipeline.sh restart recycle check\"."
}

check() {
    local urls
    read -ra urls <<<"${CHECK_URLS:-$REALM_URLS}"
    "$REWARM" check "${urls[@]}" >&2 ||
        stop "check: a page breaks in visitors' browsers, or could not be checked" \
            "the lines above name it. Go back with \"pipeline.sh rollback\", DEPLOY_REALM putting the files of the release before in place."
}

undo() {
    say 'undo: the release before becomes current'
    "$REWARM" rollout undo || stop 'undo: the manager did not go back' \
        'if it knows no release before ("rewarm release list"), run "pipeline.sh realm recycle check" with the right files.'
}

restart() {
    say 'restart: from the canary'
    "$REWARM" rollout restart || stop 'restart: the manager did not' 'see that it is up, and run this step again.'
}

validate() {
    local name value
    for name in REALM_URLS REWARM_MANAGER_URL; do
        [[ -n ${!name-} ]] || wrong "$name is not set"
    done
    for name in DEPLOY_TIMEOUT=900 READY_TIMEOUT=120 ROLLOUT_TIMEOUT=600 STABLE_FOR=5; do
        value=${name#*=} name=${name%=*}
        value=${!name:-$value}
        [[ $value =~ ^[1-9][0-9]{0,5}$ ]] || wrong "$name is \"$value\", not a number of seconds"
        declare -g "$name=$value"
    done
    [[ -z ${RELEASE-} || $RELEASE =~ ^[0-9a-f]{32}$ ]] || wrong "RELEASE is \"$RELEASE\", not a token"
}

main() {
    local step steps=("$@")
    case ${1-} in
    '' | -h | --help) usage; exit ;;
    deploy) steps=(prerender manager worker realm hook recycle check "${@:2}") ;;
    rollback) steps=(undo realm hook recycle check "${@:2}") ;;
    esac
    for step in "${steps[@]}"; do
        case $step in
        prerender | manager | worker | realm | hook) ;;
        recycle | check | undo | restart)
            command -v "${REWARM:=rewarm}" >/dev/null ||
                wrong "there is no $REWARM: put it on the PATH, or say with REWARM where it is"
            ;;
        *) wrong "\"$step\" is no step" ;;
        esac
    done
    validate
    for step in "${steps[@]}"; do "$step"; done
    say 'done'
}

main "$@"
