#!/bin/bash
# What an operator does and what may befall the daemon, on a machine with systemd. Prints "ALL WELL" at its end.
set -eux
trap 'journalctl --no-pager -u "broadcastd*" -o cat | tail -20; systemctl --no-block exit 1' ERR
cd /srv/checkout

main_pid() { systemctl show -p MainPID --value "$1"; }
restarts() { systemctl show -p NRestarts --value broadcastd.service; }
until_true() { for _ in $(seq 600); do "$@" && return; sleep 0.1; done; false; }
restarted() { [ "$(restarts)" -gt "$1" ]; }
answers() { broadcastd ping "$@" >/dev/null 2>&1; }

: a site and an imitation of WeChat
/opt/broadcastd/bin/python -m broadcastd sandbox --json --port 9981 --inside 300 >/run/sandbox.json &
until_true test -s /run/sandbox.json
/opt/broadcastd/bin/python - <<'P'
import json, sqlite3
from broadcastd.sandbox.openids import openid
site = sqlite3.connect("/var/lib/broadcastd/site.db")
site.execute("CREATE TABLE tp_receiver (id INTEGER PRIMARY KEY, openid TEXT, expire_time TEXT, send_status INTEGER, receive_status INTEGER)")
site.execute("CREATE TABLE tp_accesstoken (id INTEGER PRIMARY KEY, accesstoken TEXT)")
site.executemany("INSERT INTO tp_receiver VALUES (?, ?, NULL, 1, 1)", ((n + 1, openid(n)) for n in range(300)))
site.execute("INSERT INTO tp_accesstoken VALUES (1, ?)", (json.load(open("/run/sandbox.json"))["token"],))
site.commit()
P
filled_in() {
  sed -i "s|mysql://user:password@db.example.com:3306/site|sqlite:////var/lib/broadcastd/site.db|
    s|REPLACE-WITH-YOUR-TEMPLATE-ID|T1|; s|https://api.weixin.qq.com|http://127.0.0.1:9981|" "$1"
}

: installed and started
filled_in /etc/broadcastd/broadcastd.toml
scripts/install-service
systemctl is-active broadcastd.service broadcastd.socket broadcastd-monitor.timer
systemctl is-enabled broadcastd.service broadcastd.socket broadcastd-monitor.timer
systemctl stop broadcastd-monitor.timer
[ "$(stat -c %U "/proc/$(main_pid broadcastd.service)")" = broadcastd ]
grep -q $'CapEff:\t0000000000000000' "/proc/$(main_pid broadcastd.service)/status"

: a job under all limits
job=$(broadcastd send "hello" --key k1 --json | sed 's/.*"job": "\([^"]*\)".*/\1/')
broadcastd watch "$job" | grep "300 = 300 custom"

: frames while it restarts
cat >/run/frames.py <<'P'
import json, socket
for number in range(60):
    with socket.create_connection(("127.0.0.1", 9090), 30) as caller:
        caller.settimeout(30)
        caller.sendall(json.dumps({"content": f"n{number}", "key": f"n{number}", "to": ["o1"]}).encode() + b"\n")
        assert json.loads(caller.makefile().readline())["ok"]
P
python3 /run/frames.py &
frames=$!
for _ in 1 2 3; do sleep 0.5; systemctl restart broadcastd.service; done
wait "$frames"
systemctl reload broadcastd.service

: killed, then hung
before=$(restarts)
kill -9 "$(main_pid broadcastd.service)"
broadcastd ping
restarted "$before"
before=$(restarts)
kill -STOP "$(main_pid broadcastd.service)"
until_true restarted "$before"
broadcastd ping
[ "$(systemctl show -p Result --value broadcastd.service)" = success ]

: what the unit of the monitor may do: read the settings, ask, restart
before=$(main_pid broadcastd.service)
mkdir -p /etc/systemd/system/broadcastd-monitor.service.d
printf '[Service]\nExecStart=\nExecStart=%s\nExecStart=%s\nExecStart=%s\n' \
  "/opt/broadcastd/bin/broadcastd ping -c /etc/broadcastd/broadcastd.toml" \
  "/bin/sh -c 'df /var/lib/broadcastd && : >/var/lib/broadcastd-monitor/state && ! touch /var/lib/broadcastd/x'" \
  "/bin/systemctl restart broadcastd.service" >/etc/systemd/system/broadcastd-monitor.service.d/trial.conf
systemctl daemon-reload
systemctl start broadcastd-monitor.service
[ "$(main_pid broadcastd.service)" != "$before" ]

: a second one, and an end
scripts/install-service --instance shop --port 9290
filled_in /etc/broadcastd/shop.toml
scripts/install-service --instance shop
answers -c /etc/broadcastd/shop.toml
scripts/install-service --uninstall --instance shop
answers
systemctl stop broadcastd.socket
[ "$(systemctl is-active broadcastd.service)" = inactive ]
scripts/install-service --uninstall
[ ! -e /opt/broadcastd ]
[ -e /var/lib/broadcastd/broadcastd.db ]
echo "ALL WELL"
