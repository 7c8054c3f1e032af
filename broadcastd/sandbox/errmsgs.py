"""What WeChat says for an errcode: the reference's section 8, as far as it is answered here."""

ERRMSGS = {
    -1: "system error",
    40001: "invalid credential, access_token is invalid or not latest",
    40002: "invalid grant_type",
    40003: "invalid openid",
    40008: "invalid message type",
    40013: "invalid appid",
    40014: "invalid access_token",
    40033: "invalid charset. please check your request, if include \\uxxxx will create fail!",
    40036: "invalid template_id size",
    40037: "invalid template_id",
    40066: "invalid url",
    40125: "invalid appsecret",
    40164: "invalid ip 127.0.0.1 ipv6 ::ffff:127.0.0.1, not in whitelist",
    40241: "The message is duplicate in 60 seconds",
    40243: "AppSecret has been frozen",
    40249: "this template msg has been blocked for illegal content",
    41001: "access_token missing",
    41002: "appid missing",
    41004: "appsecret missing",
    # EasyWeChat refreshes only when the body holds exactly this text (section 10).
    42001: "access_token expired",
    43002: "require POST method",
    43004: "require subscribe",
    43019: "require remove blacklist",
    43101: "user refuse to accept the msg",
    44002: "empty post data",
    44004: "empty content",
    45002: "content size out of limit",
    45009: "reach max api daily quota limit",
    45011: "api minute-quota reach limit, must slower, retry next minute",
    45015: "response out of time limit or subscription is canceled",
    45047: "out of response count limit",
    45051: "template msg use invalid link",
    45087: "customer service message from this account have been blocked!",
    45168: "keyword in blacklist",
    46004: "user not exist",
    47001: "data format error",
    47002: "data format error, do NOT use json unicode encode (\\uxxxx\\uxxxx), "
    "please use utf8 encoded text directly",
    47003: "argument invalid!",
    48001: "api unauthorized",
    48002: "user block receive message",
    48004: "api forbidden for irregularities, view detail on mp.weixin.qq.com",
    48011: "disabled template id",
    49003: "not match openid with appid",
    50001: "api unauthorized by user",
    50002: "user limited",
    50005: "user is unsubscribed",
    87014: "risky content",
}


def errmsg(errcode: int) -> str:
    """The text of `errcode`, without the rid that every answer adds."""
    return ERRMSGS.get(errcode, "unknown error")
