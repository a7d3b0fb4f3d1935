package processpool

// Spares returns how many workers the fork server of p has ready.
func Spares(p *Pool) int { return p.server.Spares(false) }
