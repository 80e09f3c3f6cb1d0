"""Texts of a run that Markdown, or what Streamlit makes of it, would turn into something else."""

TEXTS = [
    "see http://evil.example/x and https://a.b/c",
    "www.evil.example WWW.evil.example HTTP://EVIL.example hTTpS://evil.example",
    "mail a@b.com or x.y+z@b-c.org.",
    "mailto:a@b.com xmpp:a@b.com ftp://a.b //c.d",
    ":streamlit: :smile: :+1: :material/home: :red[x] a::b::c",
    "a -> b <- c <-> d -- e >= f <= g ~= h ~~x~~",
    "&amp; &#64; &copy; a&b",
    "*w* **x** __y__ $z$ `c` [l](http://e.x) ![i](http://e.x/p.png) <b>k</b> <http://e.x>",
    "(http://evil.example) 'http://evil.example' \\http://evil.example",
    "1. http://evil.example",
    "12. x",
    "x\n=== y",
    "http://[::1]/ http://user@evil.example http:\\/\\/evil.example",
    ":color[x] ![](http://evil.example/p.png)",
]
