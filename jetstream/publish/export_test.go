package publish

// Prove has the publisher go on as after its first answer.
func (p *Publisher) Prove() *Publisher {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.proven = true
	return p
}
