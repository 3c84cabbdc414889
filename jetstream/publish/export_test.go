package publish

// Prove puts the publisher in the state after its first answer.
func (p *Publisher) Prove() *Publisher {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.proven = true
	return p
}
