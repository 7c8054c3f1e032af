"""The reasons of troubles, as they are written where they are noticed, and in Chinese.

In a sentence, `{why}` and `{first}` stand for a sentence of their own; other fields hold one word. Of two
that fit, the earlier one is taken. A test compares the English with the code that says it.
"""

from collections.abc import Mapping

SENTENCES: Mapping[str, str] = {
    # -- the monitor
    "{why}; it was stopped, so nobody starts it but you": "{why}；它已被人停止，不会自动启动，请您自行启动",
    "{why}; it was stopped": "{why}；它已被人停止",
    "{why}; it has died": "{why}；进程已意外退出",
    "{why}; it is {state}, for too long": "{why}；{state}，时间过长",
    "no daemon answers on {address}: {why}": "{address} 上没有 broadcastd 应答：{why}",
    "no daemon answers on {address}": "{address} 上没有 broadcastd 应答",
    "somebody listens, and does not answer within {n} s": "端口有程序监听，但 {n} 秒内没有应答",
    "what listens on {address} is not broadcastd": "在 {address} 监听的不是 broadcastd",
    "{address} hung up without a reply": "{address} 未应答就断开了连接",
    "it hung up without a reply": "它未应答就断开了连接",
    "it refuses the monitor's ping: {error}: {why}": "它拒绝监控的 ping：{error}：{why}",
    "its certificate is not accepted: {why}": "它的证书不被接受：{why}",
    "it does not speak TLS, which server.tls_cert (or --tls-ca) asks for":
        "它不使用 TLS，而 server.tls_cert（或 --tls-ca）要求 TLS",
    "it does not let us in: {why} (--tls-cert, --tls-key)": "它不让我们连接：{why}（--tls-cert、--tls-key）",
    "info: {why}": "info：{why}",
    "canary: {why}": "canary：{why}",
    "no answer in time": "没有及时应答",
    "job {job} of account {account} stands still since {at}: {why}":
        "公众号 {account} 的任务 {job} 自 {at} 起停滞：{why}",
    "{n} MB are free where the ledger is, less than monitor.min_free_mb = {least}":
        "账本所在磁盘剩余 {n} MB，低于 monitor.min_free_mb = {least}",
    "{key} has expired on {day} {time} UTC": "{key} 已于 {day} {time} UTC 过期",
    "{key} ends on {day} {time} UTC": "{key} 将于 {day} {time} UTC 过期",
    "{key}: {path} is no certificate": "{key}：{path} 不是证书",
    "{key}: {path} cannot be read: {why}": "{key}：{path} 无法读取：{why}",
    "account {account}: {why}": "公众号 {account}：{why}",
    "{part} of account {account}": "公众号 {account} 的{part}",
    # -- progress
    "loop: it has not come round for {n} s": "事件循环已 {n} 秒没有运转",
    "ledger: it has not answered for {n} s": "账本已 {n} 秒没有应答",
    "tasks: nobody has looked for work for {n} s": "发送任务已 {n} 秒没有领取工作",
    "tasks: a job stands still since {time} UTC: {why}": "有任务自 {time} UTC 起停滞：{why}",
    # -- jobs that stand still
    "it waits for {why}": "它在等待：{why}",
    "an answer: its calls are tried again and again, and come to nothing": "应答：调用一再重试，没有结果",
    "its turn: all tasks are at other jobs": "轮到它：所有发送任务都在处理别的任务",
    "its turn in channel {channel}": "轮到它使用通道 {channel}",
    "its turn: other jobs of its account are being read": "轮到它：正在读取该公众号的其他任务",
    "its mass message, which is being gathered": "正在汇集的群发消息",
    "its next recipients, who are due at {time} UTC": "{time} UTC 才到时间的接收者",
    "its audience is being read, and nobody of it has come for a long time":
        "正在读取它的受众，但很久没有读到任何人",
    "{n} calls to WeChat are under way, and none of it has come back": "{n} 个微信调用正在进行，没有一个返回",
    "{n} tasks have slices of it, and none of them does anything": "{n} 个发送任务持有它的分片，但都没有动作",
    "no task works on it, and nothing is known to keep it": "没有发送任务在处理它，原因不明",
    "it is {state}, and does not come to its end": "{state}，但一直没有结束",
    "its audience cannot be read: {why}": "无法读取它的受众：{why}",
    "it cannot be planned: {why}": "无法计划：{why}",
    "WeChat cannot be reached: {why}": "无法连接微信：{why}",
    "WeChat does not answer: {why}": "微信没有应答：{why}",
    "the connection broke: {why}": "连接中断：{why}",
    "no connection in time": "没有及时建立连接",
    "no connection: {why}": "无法连接：{why}",
    "the server's certificate is not trusted": "对方的证书不受信任",
    "an answer far too long for WeChat": "应答过长，不像微信的应答",
    "an answer that is no WeChat answer": "应答不是微信的应答",
    "an empty answer": "空的应答",
    # -- the canary, the ledger
    "no answer within {n} s": "{n} 秒内没有应答",
    "an internal error: see planning_failed in the log": "内部错误：见日志中的 planning_failed",
    "an internal error: {error}": "内部错误：{error}",
    "the ledger's disk has {n} MB left, less than ledger.reserve_mb = {least}":
        "账本所在磁盘剩余 {n} MB，低于 ledger.reserve_mb = {least}",
    "the ledger has not confirmed it within {n} s: {why}": "账本在 {n} 秒内没有确认写入：{why}",
    "the ledger has not confirmed it within {n} s": "账本在 {n} 秒内没有确认写入",
    "the ledger cannot be written: {why}": "账本无法写入：{why}",
    "the ledger cannot be reached: {why}": "无法连接账本：{why}",
    "the ledger cannot be read: {why}": "账本无法读取：{why}",
    "whether the last commit is in the ledger cannot be read yet: {why}": "尚无法确认上次写入是否成功：{why}",
    "the ledger is closed": "账本已关闭",
    "it was last used as {path}": "它上次的位置是 {path}",
    "it was last used on another machine": "它上次是在另一台机器上使用的",
    "its file in ledger.identity_dir is missing or damaged": "它在 ledger.identity_dir 中的文件缺失或损坏",
    "its file in ledger.identity_dir is about {path}": "它在 ledger.identity_dir 中的文件属于 {path}",
    "broadcastd has worked on since this state of it was saved": "保存这份账本之后 broadcastd 又继续工作过",
    # -- the site's database
    "the site's database does not answer within {n} s": "网站数据库 {n} 秒内没有应答",
    "the site's database cannot be reached: {why}": "无法连接网站数据库：{why}",
    "the site's database answers with what is not MySQL's protocol ({error})":
        "网站数据库的应答不符合 MySQL 协议（{error}）",
    "the site's database says: {why}": "网站数据库报告：{why}",
    "the site's database has too many connections ({code})": "网站数据库连接数过多（{code}）",
    "the site's database refuses the password ({code})": "网站数据库拒绝了密码（{code}）",
    "the site's database is shutting down ({code})": "网站数据库正在关闭（{code}）",
    "the site's database has blocked this machine after too many failed connections ({code})":
        "网站数据库因连接失败过多封禁了本机（{code}）",
    "the site's database does not let this machine connect ({code})": "网站数据库不允许本机连接（{code}）",
    "the site's database has too many connections of this user ({code})":
        "网站数据库中该用户的连接数过多（{code}）",
    "the site's database waited too long for a lock ({code})": "网站数据库等待锁超时（{code}）",
    "the site's database lets this user do no more for now ({code})":
        "网站数据库暂不允许该用户继续操作（{code}）",
    "the site's database broke off the query ({code})": "网站数据库中断了查询（{code}）",
    "the site's database wants a new password ({code})": "网站数据库要求更换密码（{code}）",
    "the site's database cut the connection ({code})": "网站数据库断开了连接（{code}）",
    "the site's database has locked this user's account ({code})": "网站数据库锁定了该用户（{code}）",
    "no answer to the attempt to connect": "连接时没有应答",
    "it refuses or ends the connection": "它拒绝或断开了连接",
    "it does not speak TLS, which tls in its url demands": "它不使用 TLS，而其 url 中的 tls 要求 TLS",
    "TLS fails: {why}": "TLS 失败：{why}",
    # -- the token
    "the access token cannot be read: {why}": "无法读取 access_token：{why}",
    "the site's table holds no access token": "网站的表中没有 access_token",
    "the site's table still holds the token that WeChat calls stale":
        "网站的表中仍是微信认为已失效的 access_token",
    "the site's table has held the same access token for {n} h, and WeChat's live for {most} h:"
    " does the site still refresh it?":
        "网站的表中 {n} 小时以来一直是同一个 access_token，而微信的有效期为 {most} 小时：网站还在刷新它吗？",
    "WeChat refuses the access token that it gives out itself; a new one can be forced in {n} s":
        "微信拒绝它自己发放的 access_token；{n} 秒后可强制换新",
    "WeChat refuses the access token that it gives out itself, and gives no other"
    " (20 forced refreshes a day are allowed)":
        "微信拒绝它自己发放的 access_token，也不给新的（每天可强制刷新 20 次）",
    "WeChat gives no access token: {why}": "微信不给 access_token：{why}",
    "a token that cannot be one": "不可能是 access_token 的内容",
    "{first} (check app_id and app_secret)": "{first}（检查 app_id 和 app_secret）",
    "{first} (said of this call: the app_secret is wrong)": "{first}（就这个调用而言：app_secret 错误）",
    "{first} (put {why} on the IP whitelist in WeChat's console)":
        "{first}（在微信公众平台把 {why} 加入 IP 白名单）",
    "{first} (the app_secret is frozen: unfreeze it in WeChat's console)":
        "{first}（app_secret 已冻结：在微信公众平台解冻）",
    "{first} (the administrator must confirm this server's IP)": "{first}（须由管理员确认本服务器的 IP）",
    "{first} (the administrator refused this server's IP: again in {n} h)":
        "{first}（管理员拒绝了本服务器的 IP：{n} 小时后再试）",
    # -- jobs and accounts that are held
    "the audience query yields nobody": "受众查询没有返回任何人",
    "the audience query yields id {id} more than once: ids must be unique":
        "受众查询多次返回 id {id}：id 必须唯一",
    "the audience query yields an id that is no whole number: {id}": "受众查询返回的 id 不是整数：{id}",
    "the audience query yields an id that is no whole number of 64 bits: {id}":
        "受众查询返回的 id 不是 64 位整数：{id}",
    "{n} of the {all} recipients frozen so far are gone from the audience,"
    " more than audience.max_gone_share allows: is the database whole and up to date?":
        "已确定的 {all} 位接收者中有 {n} 位已不在受众中，"
        "超过 audience.max_gone_share：数据库是否完整、是否最新？",
    "{n} of {all} recipients that wait for a mass message are gone from the audience,"
    " more than audience.max_gone_share allows: is the database whole and up to date?":
        "等待群发的 {all} 位接收者中有 {n} 位已不在受众中，"
        "超过 audience.max_gone_share：数据库是否完整、是否最新？",
    "{first}, for {n} lists in a row: openids of another account?":
        "{first}，连续 {n} 批：是别的公众号的 openid 吗？",
    "{first}, for many recipients": "{first}，涉及许多接收者",
    "{first} (channel {channel})": "{first}（通道 {channel}）",
    # -- quotas
    "{n} calls are left today; tried again at {day} {time} UTC": "今天还剩 {n} 次调用；{day} {time} UTC 再试",
    "what is left is not known; tried again at {day} {time} UTC": "剩余次数不明；{day} {time} UTC 再试",
    "what is left is not known": "剩余次数不明",
    "nothing is left today; looked at again at {day} {time} UTC": "今天已用完；{day} {time} UTC 再查看",
    "{channel}: what is left is not known yet": "{channel}：尚不知剩余次数",
    "{channel}: {n} of {limit} calls are left today, how many are needed is not known yet":
        "{channel}：今天还剩 {n} / {limit} 次调用，尚不知需要多少次",
    "{channel}: up to {needed} are needed after up to {before} for jobs before it,"
    " {n} of {limit} calls are left today":
        "{channel}：最多需要 {needed} 次（先前的任务最多还需 {before} 次），今天还剩 {n} / {limit} 次调用",
    "{channel}: {needed} are needed after up to {before} for jobs before it,"
    " {n} of {limit} calls are left today":
        "{channel}：需要 {needed} 次（先前的任务最多还需 {before} 次），今天还剩 {n} / {limit} 次调用",
    "{channel}: up to {needed} are needed, {n} of {limit} calls are left today":
        "{channel}：最多需要 {needed} 次，今天还剩 {n} / {limit} 次调用",
    "{channel}: {needed} are needed, {n} of {limit} calls are left today":
        "{channel}：需要 {needed} 次，今天还剩 {n} / {limit} 次调用",
    # -- hooks
    "given up: {why}": "已放弃：{why}",
    "[Errno {n}] {why}": "{why}",
    "url: {why}": "url：{why}",
    "sql: {why}": "sql：{why}",
    "no answer: {error}": "没有应答：{error}",
}  # fmt: skip

# Single words of ours, and what the system says (`os.strerror`) and SQLite.
WORDS: Mapping[str, str] = {
    "starting": "正在启动", "stopping": "正在停止",
    "accepted": "已接受", "running": "进行中", "held": "已搁置", "paused": "已暂停",
    "cancelling": "正在取消", "cancelled": "已取消", "expiring": "即将到期结束", "expired": "已到期结束",
    "done": "已完成",
    "intake": "接收", "plan": "受众查询", "token": " access_token",
    "this server's IP": "本服务器的 IP",
    "Connection refused": "连接被拒绝", "Connection reset by peer": "连接被对方重置",
    "Connection timed out": "连接超时", "timed out": "超时", "No route to host": "没有到主机的路由",
    "Network is unreachable": "网络不可达", "Broken pipe": "连接已断开",
    "Name or service not known": "找不到该主机名",
    "Temporary failure in name resolution": "域名解析暂时失败",
    "No space left on device": "磁盘空间已满", "Disk quota exceeded": "超出磁盘配额",
    "Input/output error": "输入输出错误", "Read-only file system": "文件系统只读",
    "Permission denied": "没有权限", "No such file or directory": "文件不存在",
    "Too many open files": "打开的文件过多",
    "database or disk is full": "磁盘空间已满", "disk I/O error": "磁盘输入输出错误",
    "database is locked": "数据库被锁定", "attempt to write a readonly database": "数据库只读",
    "database disk image is malformed": "数据库文件已损坏",
    "unable to get local issuer certificate": "找不到签发者的证书",
    "self-signed certificate": "自签名证书", "certificate has expired": "证书已过期",
}  # fmt: skip
