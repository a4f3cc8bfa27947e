#!/bin/bash
# Stands in for systemctl and journalctl: one unit, whose server really runs. All state is in files beside
# this script; tests put files there that make it behave as systemd does in odd cases.
here=$(dirname "$(readlink -f "$0")")
unit=abssctl-budget.service
args=()
for arg in "$@"; do
    case $arg in --) ;; -*) ;; *) args+=("$arg") ;; esac
done
cd "$here" || exit 1
if [ "$(basename "$0")" = journalctl ]; then
    since=0
    for arg in "$@"; do
        case $arg in --sync) exit 0 ;; --since=@*) since=${arg#--since=@} ;; esac
    done
    # What is in "old" was written at the beginning of the second that is asked for.
    entries() {
        tr -d '\000-\010\013-\032\034-\037' <"$1" | sed 's/[\\"]/\\&/g; s/\t/\\t/g; s/\x1b/\\u001b/g; s/.*/{"__REALTIME_TIMESTAMP":"'"$2"'","MESSAGE":"&"}/'
    }
    if [ -e old ]; then entries old "${since}000000"; fi
    if [ -e log ]; then entries log "$(date +%s%6N)"; fi
    exit 0
fi
verb=${args[0]} name=${args[1]}
[ "$verb" = show ] || echo "$verb${name:+ $name}" >>calls
alive() { [ -n "$1" ] && [ -r "/proc/$1/stat" ] && ! grep -q ') Z ' "/proc/$1/stat"; }
pid=$(cat pid 2>/dev/null)
load=loaded
[ "$name" = "$unit" ] || load=not-found
[ -e load ] && load=$(cat load)
# What a test wants to happen to whoever gives this order, before or after it.
fate() { if [ -e "kill-$1-$verb" ]; then rm "kill-$1-$verb"; kill -KILL "$PPID"; fi; }
case $verb in
show)
    active=inactive sub=dead result=success
    if [ "$load" = loaded ] || [ "$load" = masked ]; then
        if alive "$pid"; then active=active sub=running
        elif [ -e restarting ]; then active=activating sub=auto-restart result=exit-code
        elif [ -e pid ]; then active=failed sub=failed result=exit-code
        elif [ -e limit ]; then active=failed sub=failed result=start-limit-hit; fi
    else pid=; fi
    alive "$pid" || pid=0
    printf '%s\n' "LoadState=$load" "ActiveState=$active" "SubState=$sub" "Result=$result" "MainPID=$pid" \
        "NRestarts=0" "UnitFileState=$(cat file 2>/dev/null || echo enabled)" "ControlGroup="
    ;;
stop)
    fate before
    rm -f restarting
    if [ -e stubborn ]; then exec sleep 60; fi
    if alive "$pid"; then
        kill -TERM "$pid"
        while alive "$pid"; do sleep 0.02; done
    fi
    rm -f pid
    fate after
    ;;
daemon-reload) if [ -e no-reload ]; then echo "Failed to reload daemon: Connection timed out" >&2; exit 1; fi ;;
reset-failed) rm -f limit; alive "$pid" || rm -f pid ;;
start)
    fate before
    if [ -e limit ]; then echo "Start request repeated too quickly." >&2; exit 1; fi
    if [ "$load" != loaded ]; then echo "Unit $name is $load." >&2; exit 1; fi
    if [ -e crashes ]; then
        echo "Error: the disk is full" >log
        touch restarting
        echo "Job for $name failed because the control process exited with error code." >&2
        exit 1
    fi
    if ! alive "$pid"; then
        : >log
        setsid ./server >>log 2>&1 </dev/null &
        echo $! >pid
    fi
    fate after
    ;;
*) echo "Unknown command verb $verb." >&2; exit 1 ;;
esac
exit 0
